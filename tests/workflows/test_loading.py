"""Loading a workflow by its dotted path: each error names the part that failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ml.errors import ConfigurationError, did_you_mean
from ml.workflows.loading import load_workflow, load_workflow_class

MODULE = """
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow

class Shout(BaseInferenceWorkflow):
    def __init__(self, mark="!", *, times=1):
        super().__init__(mark, times=times)
        if times < 1:
            raise ValueError("times must be 1 or more")

    def do_run_model(self, text):
        return text.upper() + self.args[0] * self.kwargs["times"]

class Anything(BaseInferenceWorkflow):
    def do_run_model(self, text):
        return text

class Unfinished(BaseInferenceWorkflow):
    pass

class Stranger:
    pass

def function():
    pass
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package outside the project, as an image builder writes one."""
    folder = tmp_path / "made_up_package"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "shout.py").write_text(MODULE)
    (folder / "needy.py").write_text("import a_module_that_is_not_installed")
    (folder / "broken.py").write_text("1 / 0")
    (folder / "wrong.py").write_text("def (")
    monkeypatch.syspath_prepend(tmp_path)


def refusal(path: str, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_workflow(path, args, kwargs)
    return str(caught.value)


async def test_a_class_outside_the_project_is_loaded_with_its_arguments() -> None:
    workflow = load_workflow("made_up_package.shout.Shout", ["?"], {"times": 2})
    await workflow.setup()
    assert await workflow.inference("hello") == "HELLO??"


def test_arguments_of_any_name_reach_a_class_without_a_constructor_of_its_own() -> None:
    workflow = load_workflow("made_up_package.shout.Anything", [1], {"name": "x"})
    assert workflow.args == [1]
    assert workflow.kwargs == {"name": "x"}


def test_spaces_around_the_path_do_no_harm() -> None:
    assert load_workflow_class(" made_up_package.shout.Shout\n").__name__ == "Shout"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("Shout", "'Shout' is not a dotted path such as package.module.Class"),
        ("", "is not a dotted path"),
        ("no_such_package.Shout", "no module named 'no_such_package'"),
        ("made_up_package.shut.Shout", "no module named 'made_up_package.shut'"),
        ("made_up_package.needy.X", "a_module_that_is_not_installed is not installed"),
        ("made_up_package.broken.X", "failed while it was imported: ZeroDivisionError"),
        ("made_up_package.wrong.X", "failed while it was imported: SyntaxError"),
        ("made_up_package.shout.Shoot", "has no class 'Shoot'; did you mean 'Shout'?"),
        ("made_up_package.shout.Stranger", "is not a subclass of BaseInferenceWorkflow"),
        ("made_up_package.shout.function", "is not a subclass of BaseInferenceWorkflow"),
        ("made_up_package.shout.Unfinished", "is abstract: it does not define do_run_model"),
    ],
)
def test_a_wrong_path_is_told_by_the_part_that_failed(path: str, message: str) -> None:
    assert message in refusal(path)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ([], {"time": 2}, "Shout takes no argument 'time'; did you mean 'times'?"),
        ([], {"colour": 2}, "Shout takes no argument 'colour'"),
        (["!", "!"], {}, "too many positional arguments"),
        (["!"], {"mark": "?"}, "multiple values for argument 'mark'"),
        ([], {"times": 0}, "the constructor refused its arguments: times must be 1 or more"),
        ([], {"times": "2"}, "the constructor refused its arguments"),
    ],
)
def test_wrong_arguments_are_named(args: list[Any], kwargs: dict[str, Any], message: str) -> None:
    assert message in refusal("made_up_package.shout.Shout", *args, **kwargs)


def test_a_constructors_own_configuration_error_is_passed_on() -> None:
    path = "ml.workflows.inference.torch_inference_workflow.TorchInferenceWorkflow"
    assert refusal(path).startswith("give one of: model")


def test_nothing_close_means_no_hint() -> None:
    assert did_you_mean("zebra", ["apple"]) == ""
    assert did_you_mean("appel", ["apple"]) == "; did you mean 'apple'?"
