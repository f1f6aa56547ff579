"""Which tests start processes, and how several test processes share the tests."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import _lru_cache_wrapper, cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.support.processes import ROOT

__all__ = ["STARTERS", "WholeModules", "dotted_name", "first_the_long", "starts_processes"]

TESTS = ROOT / "tests"
#: What starts processes, and what computes as long as they take to start: training and circuits.
STARTERS = {
    "ezkl_patches.solidity.compile_solidity",
    "ml.finetuning.job",
    "ml.generation.openvino_engine.OpenVINOEngine",
    "ml.jobs.engine.JobEngine",
    "ml.jobs.executors.local.LocalExecutor",
    "ml.proving.building.build",
    "ml.proving.proof_jobs.ProofJobs",
    "ml.proving.worker.Worker",
    "multiprocessing",
    "playwright.async_api.async_playwright",
    "subprocess",
    "tests.support.processes.Server",
}
#: What takes longest, in the order in which it is to begin.
LONG = (
    "images",
    "e2e/test_demo.py",
    "services/test_unsloth_trainer_service.py",
    "services/test_llm_under_load.py",
    "services/test_proof_jobs.py",
    "chain/test_proving_document.py",
    "fuzz",
    "proving/test_job.py",
    "chain",
    "browser",
    "test_help.py",
    "services",
    "proving",
    "e2e",
    "finetuning/test_",
)


def starts_processes(item: pytest.Item) -> bool:
    """Return whether a test, or a fixture that it uses, names something that starts processes.

    So nobody has to mark one.
    """
    if not isinstance(item, pytest.Function):
        return False
    fixtures = item._fixtureinfo.name2fixturedefs.values()
    functions = [definition.func for definitions in fixtures for definition in definitions]
    given = item.callspec.params.values() if hasattr(item, "callspec") else ()
    functions += [item.function, *(value for value in given if dotted_name(value))]
    return any(_starts(inspect.unwrap(one)) for one in functions)


@cache
def _starts(function: Callable[..., Any]) -> bool:
    """Return whether a function reaches a starter through functions and classes of the tests."""
    reached = [function]
    for one in reached:
        for value in _globals_of(one):
            if dotted_name(value) in STARTERS:
                return True
            if dotted_name(value).startswith("tests."):
                members = vars(value).values() if isinstance(value, type) else [value]
                found = [inspect.unwrap(getattr(member, "fget", member)) for member in members]
                reached += [member for member in found if member not in reached]
    return False


def _globals_of(function: Callable[..., Any]) -> Iterator[Any]:
    """Yield the global objects that a function's code names."""
    codes = [getattr(function, "__code__", None)]
    for code in codes:
        if code is not None:
            codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
            for name in code.co_names:
                yield getattr(function, "__globals__", {}).get(name)


def dotted_name(value: Any) -> str:
    """Return the dotted name of a module, class or function; nothing else is looked into."""
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, type | FunctionType | _lru_cache_wrapper):
        return f"{value.__module__}.{value.__qualname__}"
    return ""


def first_the_long(items: list[pytest.Item]) -> None:
    """Put what takes long in front, or the last process would work on it alone at the end."""

    def rank(item: pytest.Item) -> tuple[int, bool]:
        own = item.path.relative_to(TESTS).as_posix()
        found = (number for number, name in enumerate(LONG) if own.startswith(name))
        return next(found, len(LONG)), item.get_closest_marker("processes") is None

    items.sort(key=rank)


class WholeModules(LoadScopeScheduling):
    """Gives a test process a whole module, in order, so that what it starts is started once.

    All modules about images are one: they share what they build.
    """

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False  # it goes by the number of tests
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return "images" if nodeid.startswith("tests/images/") else nodeid.partition("::")[0]
