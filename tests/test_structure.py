"""What holds of all code: which way imports point, how long functions are, what an import loads."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.support.processes import ROOT, clean_environment

SOURCES = {"ml": ROOT / "src" / "ml", "ezkl_patches": ROOT / "ezkl_patches"} | {
    folder.name: folder for folder in sorted((ROOT / "services").iterdir()) if folder.is_dir()
}
SERVICES = tuple(name for name in SOURCES if name.endswith("_service"))
#: What each part may import of the project, the part itself left out. Data goes one way:
#: service → serving → workflows → (generation | finetuning | proving) → (models | jobs | upstream)
#: → infernet → errors.
_LEAVES = (
    "ml",
    "ml.errors",
    "ml.addresses",
    "ml.caller",
    "ml.extras",
    "ml.json_text",
    "ml.parent_process",
    "ml.setting_text",
)
_BASE = (*_LEAVES, "ml.infernet", "ml.tracing")
_TOOLS = (*_BASE, "ml.models", "ml.generation", "ml.upstream", "ml.jobs", "ml.finetuning")
MAY_IMPORT = {
    "ml": (),
    "ml.errors": ("ml",),
    "ml.addresses": ("ml",),
    "ml.caller": ("ml",),
    "ml.extras": ("ml",),
    "ml.json_text": ("ml",),
    "ml.parent_process": ("ml",),
    "ml.setting_text": ("ml", "ml.json_text"),
    "ml.infernet": ("ml", "ml.errors", "ml.json_text"),
    "ml.tracing": ("ml", "ml.errors", "ml.extras"),
    "ml.models": _BASE,
    "ml.generation": (*_BASE, "ml.models"),
    "ml.upstream": _BASE,
    "ml.jobs": _BASE,
    "ml.finetuning": (*_BASE, "ml.models", "ml.jobs"),
    "ml.proving": (*_BASE, "ml.models", "ml.jobs", "ezkl_patches"),
    "ml.workflows": (*_TOOLS, "ml.proving"),
    "ml.testing": (*_TOOLS, "ml.workflows"),
    "ml.serving": (*_TOOLS, "ml.workflows"),
    "ezkl_patches": (),
}
_SERVICES_MAY_IMPORT = (*_TOOLS, "ml.proving", "ml.serving", "ml.workflows", "ezkl_patches")
WEB = {"quart", "quart_schema", "hypercorn", "granian", "werkzeug", "flask", "uvloop"}
HEAVY = {
    "torch",
    "transformers",
    "huggingface_hub",
    "onnxruntime",
    "openvino",
    "sklearn",
    "skops",
    "xgboost",
    "lightgbm",
    "catboost",
    "pandas",
    "matplotlib",
    "ezkl",
}
MOST_LINES_OF_A_FUNCTION, MOST_LINES_OF_A_FILE = 120, 500
#: In the annotations and aliases of a part. Most of those of workflows are their hooks, whose
#: subclasses say themselves what they take.
MOST_ANY_IN_100_LINES = {"ml.workflows": 0.7, "ml.serving": 1.7}


@cache
def modules() -> dict[str, Path]:
    """Return every module of the project by its name."""
    found = {}
    for package, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            inside = path.relative_to(folder).with_suffix("").parts
            parts = (package, *inside)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imported(module: str, *, running: bool = True) -> set[str]:
    """Return what a module imports; `running` leaves out what only type checkers import."""
    names: set[str] = set()

    def visit(node: ast.AST) -> None:
        if running and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{module}: no relative imports"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                names.add(full if full in modules() else node.module)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(modules()[module].read_text()))
    return names


def part(module: str) -> str:
    """Return the part of the house that a module belongs to."""
    return ".".join(module.split(".")[:2]) if module.startswith("ml.") else module.split(".")[0]


def names_of(node: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [n for n in ast.walk(node) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


@cache
def loaded_with(module: str) -> set[str]:
    """Return all that a new interpreter has loaded once it has imported a module."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print(*sys.modules)"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stdout.split())


def test_every_module_belongs_to_a_known_part() -> None:
    known = {*MAY_IMPORT, *SERVICES}
    assert {part(module) for module in modules()} <= known


def test_imports_point_one_way() -> None:
    def forbidden(module: str, name: str) -> bool:
        own = part(module)
        allowed = _SERVICES_MAY_IMPORT if own in SERVICES else MAY_IMPORT[own]
        return name.split(".")[0] in SOURCES and part(name) not in {*allowed, own}

    assert [
        f"{module} imports {name}"
        for module in modules()
        for name in imported(module, running=False)
        if forbidden(module, name)
    ] == []


def test_nothing_below_serving_knows_http() -> None:
    assert [
        f"{module} imports {name}"
        for module in modules()
        if part(module) not in ("ml.serving", "ml.testing", *SERVICES)
        for name in imported(module, running=False)
        if name.split(".")[0] in WEB
    ] == []


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = {name: imported(name) & set(modules()) - {name} for name in modules()}
    TopologicalSorter(graph).prepare()  # raises CycleError with the path


@pytest.mark.parametrize("module", ["ml.serving.app", "ml.serving.command", *SERVICES])
def test_importing_a_service_loads_no_model_library(module: str) -> None:
    assert not HEAVY & loaded_with(module)


@pytest.mark.parametrize(
    "module", ["ml.serving.command", "ml.serving.app", "ml.serving.settings", *SERVICES]
)
def test_metrics_are_not_loaded_before_the_folder_that_workers_share_is_known(module: str) -> None:
    assert "prometheus_client" not in loaded_with(module)


def test_files_and_functions_can_be_read_at_a_glance() -> None:
    long = []
    for module, path in modules().items():
        text = path.read_text()
        if (lines := text.count("\n")) > MOST_LINES_OF_A_FILE:
            long.append(f"{module} has {lines} lines")
        for function in names_of(ast.parse(text)):
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > MOST_LINES_OF_A_FUNCTION:
                long.append(f"{module}.{function.name} has {lines} lines")
    assert long == []


@pytest.mark.parametrize(("place", "most"), MOST_ANY_IN_100_LINES.items())
def test_types_say_what_they_are(place: str, most: float) -> None:
    lines, found = 0, dict[str, int]()
    for module, path in modules().items():
        if part(module) == place:
            text = path.read_text()
            lines += text.count("\n")
            names = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name))
            found[module] = sum(name.id == "Any" for name in names)
    assert 100 * sum(found.values()) / lines < most, {k: n for k, n in found.items() if n}


def test_no_environment_is_read_while_a_module_is_imported() -> None:
    for module, path in modules().items():
        for statement in ast.parse(path.read_text()).body:
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            assert not re.search("attr='(environ|getenv)'", ast.dump(statement)), module
