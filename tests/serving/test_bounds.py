"""Numbers in settings are finite, and what `serve` runs is an application of this project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ml.errors import ConfigurationError
from ml.serving.command import main
from ml.serving.services import settings_of
from ml.serving.settings import load_settings
from ml.workflows.inference.llm_inference_workflow import LLMInferenceWorkflow
from ml.workflows.inference.tgi_client_inference_workflow import TGIClientInferenceWorkflow
from tests.support.processes import clean_environment
from tests.support.services import SERVICES

FRACTIONS = [
    (service, field)
    for service in SERVICES
    for field, info in settings_of(service).model_fields.items()
    if info.annotation is float
]
URL = "http://127.0.0.1:1"


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e999", "1e300"])
@pytest.mark.parametrize(("service", "field"), FRACTIONS)
def test_a_setting_that_is_not_finite_or_far_too_large_is_refused(
    monkeypatch: pytest.MonkeyPatch, service: str, field: str, value: str
) -> None:
    settings = settings_of(service)
    variable = settings.variables()[field]
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(settings)
    [line] = str(caught.value).splitlines()
    assert line.startswith(f"{variable}: Input should be ")


@pytest.mark.parametrize("text", ['{"a": Infinity}', '{"a": [-Infinity]}', '{"a": NaN}'])
def test_arguments_are_json_which_has_only_finite_numbers(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("FLASK_LLM_WORKFLOW_KW_ARGS", text)
    with pytest.raises(ConfigurationError, match=r"ARGS: not valid JSON: "):
        load_settings(settings_of("llm_inference_service"))


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize(
    ("workflow", "arguments"),
    [
        (TGIClientInferenceWorkflow, {"connection_timeout": ...}),
        (TGIClientInferenceWorkflow, {"repetition_penalty": ...}),
        (TGIClientInferenceWorkflow, {"retry_params": {"delay": ...}}),
        (TGIClientInferenceWorkflow, {"retry_params": {"max_delay": ...}}),
        (TGIClientInferenceWorkflow, {"retry_params": {"jitter": [0, ...]}}),
        (LLMInferenceWorkflow, {"temperature": ...}),
        (LLMInferenceWorkflow, {"top_p": ...}),
    ],
)
def test_an_argument_that_is_not_finite_is_refused(
    workflow: Any, arguments: dict[str, Any], value: float
) -> None:
    def filled(given: Any) -> Any:
        if isinstance(given, dict):
            return {name: filled(one) for name, one in given.items()}
        return (
            [filled(one) for one in given]
            if isinstance(given, list)
            else (value if given is ... else given)
        )

    url = {"server_url": URL} if workflow is TGIClientInferenceWorkflow else {}
    [name] = arguments
    with pytest.raises(ConfigurationError, match=name):
        workflow(**url, **filled(arguments))


@pytest.fixture
def run_main(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Run `serve` in this process, which it is to end with code 2; returns what it tells."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # else it sets the variable
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        return capfd.readouterr().err

    return run


@pytest.mark.parametrize("option", ["--keep-alive", "--graceful-timeout"])
@pytest.mark.parametrize("value", ["inf", "nan", "-1", "1e300", "long"])
def test_seconds_of_serve_are_within_bounds(run_main: Any, option: str, value: str) -> None:
    assert f"argument {option}: from 0 to" in run_main("classic", f"{option}={value}")


@pytest.mark.parametrize(
    "module",
    [
        "os:system",
        "os:environ",
        "os:sep",
        "os:getcwd",
        "json:loads",
        "json:JSONDecoder",
        "ml.serving.app:ServiceApp",
        "tests.support.workflows:Echo",
    ],
)
def test_what_makes_no_application_is_told_in_one_line(run_main: Any, module: str) -> None:
    [line] = run_main(module, "--check").splitlines()
    assert line.startswith(f"serve: {module!r} is no application of this project: give a service")


def test_serve_ends_with_code_2_over_what_makes_no_application() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "serve", "os:getcwd", "--bind=127.0.0.1:0"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("is no application of this project") == 1
    assert "Traceback" not in done.stderr
