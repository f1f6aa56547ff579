"""The settings of a service: all faults at once, in words, and secrets stay hidden."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from classic_ml_inference_service.app import Settings
from ml.errors import ConfigurationError
from ml.serving.services import settings_of
from ml.serving.settings import load_settings
from tests.conftest import MakeApp
from tests.support.processes import PREFIX, ROOT, clean_environment, service_variables
from tests.support.services import SERVICES
from tests.support.workflows import Echo, Refusing, Shout

OPTIONS_OF_SERVE = ["classic_ml_inference_service", "--bind=127.0.0.1:0"]


def serve(*options: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run `serve` to its end, with settings that it refuses."""
    return subprocess.run(
        [Path(sys.executable).parent / "serve", *(options or OPTIONS_OF_SERVE)],
        env=clean_environment(**settings),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def faults(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> str:
    for name, value in service_variables(**({"workflow_class": Echo} | settings)).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(Settings)
    return str(caught.value)


def refused(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> str:
    """Return what the factory prints when it refuses to make an application."""
    from classic_ml_inference_service import create_app

    for name, value in service_variables(**settings).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as caught:
        create_app()
    assert caught.value.code == 2
    return capfd.readouterr().err


def test_all_faults_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told = faults(
        monkeypatch,
        workflow_class="no_such_package.Workflow",
        workflow_kw_args="{oops",
        workflow_positional_args='{"a": 1}',
        max_in_flight="many",
        request_timeout_seconds="-1",
        log_level="LOUD",
        CLASSIC_INF_MAX_INFLIGHT="3",
        CLASSIC_INF_XYZZY="1",
    ).splitlines()
    assert len(told) == 8
    for name, text in {
        "WORKFLOW_CLASS": "no_such_package",
        "WORKFLOW_KW_ARGS": "not valid JSON",
        "WORKFLOW_POSITIONAL_ARGS": "list",
        "MAX_IN_FLIGHT": "integer",
        "REQUEST_TIMEOUT_SECONDS": "greater than 0",
        "LOG_LEVEL": "'DEBUG'",
        "MAX_INFLIGHT": "no such setting; did you mean 'CLASSIC_INF_MAX_IN_FLIGHT'?",
        "XYZZY": "no such setting",
    }.items():
        [line] = [line for line in told if line.strip().startswith(f"{PREFIX}{name}: ")]
        assert text in line


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("nodots", "not a dotted path"),
        ("no_such_package.module.Class", "no module named 'no_such_package'"),
        ("tests.support.nothing.Class", "no module named 'tests.support.nothing'"),
        ("tests.support.workflows.Shuot", "no class 'Shuot'; did you mean 'Shout'?"),
        ("tests.support.workflows.Point", "not a subclass of BaseInferenceWorkflow"),
        ("tests.support.workflows.is_cancelled", "not a subclass of BaseInferenceWorkflow"),
        (
            "ml.workflows.inference.base_inference_workflow.BaseInferenceWorkflow",
            "abstract: it does not define do_run_model",
        ),
        ("tests.support.broken_module.Class", "failed while it was imported: ZeroDivisionError"),
        ("tests.support.needy_module.Class", "no_such_package is not installed"),
    ],
)
def test_a_class_that_cannot_be_used_says_which_part_failed(
    monkeypatch: pytest.MonkeyPatch, path: str, text: str
) -> None:
    assert text in faults(monkeypatch, workflow_class=path)


@pytest.mark.parametrize(
    ("workflow", "settings", "text"),
    [
        (Shout, {"workflow_kw_args": {"endin": "!"}}, "no argument 'endin'; did you mean 'ending'"),
        (Shout, {"workflow_positional_args": [1]}, "too many positional arguments"),
        (Refusing, {}, "missing a required argument: 'size'"),
        (Refusing, {"workflow_kw_args": {"size": 3}}, "size 3 is out of range"),
    ],
)
def test_arguments_that_the_class_does_not_take_are_told(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    workflow: type,
    settings: dict[str, Any],
    text: str,
) -> None:
    printed = refused(capfd, monkeypatch, workflow_class=workflow, **settings)
    assert text in printed
    assert "Traceback" not in printed


def test_no_secret_is_repeated_in_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    told = faults(monkeypatch, workflow_kw_args='{"token": "hf_secret', api_keys='["hf_secret')
    assert "hf_secret" not in told


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in service_variables(
        workflow_class=Echo, max_in_flight="", api_keys=""
    ).items():
        monkeypatch.setenv(name, value)
    settings = load_settings(Settings)
    assert settings.max_in_flight == 128
    assert settings.api_keys == []


@pytest.mark.parametrize("server", [[], ["--workers=2"], ["--server=hypercorn"]])
def test_serve_ends_at_once_with_code_2_and_one_message(server: list[str]) -> None:
    done = serve(*OPTIONS_OF_SERVE, *server, workflow_class="nowhere.Class", max_in_flight=0)
    assert done.returncode == 2
    assert done.stderr.count("cannot start with these settings") == 1
    assert done.stderr.count(f"{PREFIX}WORKFLOW_CLASS: no module named 'nowhere'") == 1
    assert done.stderr.count(f"{PREFIX}MAX_IN_FLIGHT: ") == 1
    assert "Traceback" not in done.stderr
    assert "replaced" not in done.stderr


def test_the_factory_alone_ends_with_code_2_and_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import classic_ml_inference_service as s; s.create_app()"],
        env=clean_environment(workflow_class=Echo, max_in_flight="x"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert f"{PREFIX}MAX_IN_FLIGHT: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["no_such_service"], 2, "no module named 'no_such_service'"),
        (["json"], 2, "'json' has no 'create_app'"),
        (["classic_ml_inference_service:nope"], 2, "has no 'nope'"),
        ([*OPTIONS_OF_SERVE, "--workers=0"], 2, "at least 1"),
        ([*OPTIONS_OF_SERVE, "--env-file=/nowhere/file.env"], 2, "/nowhere/file.env"),
        (["classic_ml_inference_service", "--bind=no.such.host.invalid:1"], 1, "cannot bind"),
    ],
)
def test_options_of_serve_that_cannot_work_are_told_without_a_traceback(
    options: list[str], code: int, text: str
) -> None:
    done = serve(*options, workflow_class=Echo)
    assert done.returncode == code
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_check_prints_the_effective_settings_and_hides_secrets() -> None:
    done = serve(
        "classic_ml_inference_service",
        "--check",
        workflow_class=Shout,
        workflow_kw_args={"ending": "!", "hub_token": "hf_secret"},
        api_keys="key_secret",
        max_in_flight=7,
        HUGGING_FACE_HUB_TOKEN="hf_secret_two",
    )
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert document["max_in_flight"] == 7
    assert document["workflow_kw_args"]["ending"] == "!"
    assert "secret" not in done.stdout + done.stderr


def test_check_reads_an_env_file(tmp_path: Path) -> None:
    file = tmp_path / "some.env"
    lines = service_variables(workflow_class=Shout, workflow_kw_args={"ending": "!"})
    file.write_text("\n".join(f"{name}={value}" for name, value in lines.items()))
    done = serve("classic_ml_inference_service", "--check", f"--env-file={file}")
    assert json.loads(done.stdout)["workflow_kw_args"] == {"ending": "!"}


async def test_config_shows_the_settings_and_hides_secrets_at_any_depth(make_app: MakeApp) -> None:
    app = await make_app(
        Echo,
        api_keys="key_secret",
        workflow_kw_args={"a": [{"hub_token": "hf_secret"}], "password": {"is": "secret"}, "n": 1},
        HUGGING_FACE_HUB_TOKEN="hf_secret",
    )
    headers = {"Authorization": "Bearer key_secret"}
    response = await app.test_client().get("/config", headers=headers)
    text = (await response.get_data()).decode()
    assert response.status_code == 200
    assert json.loads(text)["workflow_kw_args"]["n"] == 1
    assert "secret" not in text


async def test_the_arguments_reach_the_workflow(make_app: MakeApp) -> None:
    app = await make_app(Echo, workflow_positional_args=[1, "two"], workflow_kw_args={"three": [3]})
    assert app.workflow.args == [1, "two"]
    assert app.workflow.kwargs == {"three": [3]}


async def test_math_threads_are_limited_before_a_workflows_module_is_loaded(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = ["import os", f"from {Echo.__module__} import Echo"]
    lines += ["class Counting(Echo):", "    threads = os.environ.get('OMP_NUM_THREADS')"]
    (tmp_path / "counts_threads.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    app = await make_app("counts_threads.Counting")
    assert int(app.workflow.threads) >= 1


@pytest.mark.parametrize("name", SERVICES)
def test_every_setting_is_in_the_services_document(name: str) -> None:
    readme = (ROOT / "services" / name / "README.md").read_text()
    for variable in settings_of(name).variables().values():
        assert f"`{variable}`" in readme


def test_a_service_refuses_a_workflow_of_another_kind_than_it_needs() -> None:
    done = serve(
        "unsloth_trainer_service",
        "--check",
        TRAINER_WORKFLOW_CLASS=f"{Echo.__module__}.Echo",
    )
    assert done.returncode == 2
    assert "TRAINER_WORKFLOW_CLASS: tests.support.workflows.Echo is not a subclass of" in (
        done.stderr
    )
    assert "UnslothTrainerWorkflow" in done.stderr


def test_keys_of_which_there_is_none_do_not_open_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "there is no key in it" in faults(monkeypatch, api_keys=",,")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read: No such file"),
        (b"\xff\xfe\x00", "no text in UTF-8"),
        (b"", "no set"),
    ],
)
def test_a_file_of_settings_that_cannot_be_read_is_named(
    tmp_path: Path, content: bytes | None, told: str
) -> None:
    file = tmp_path / "my.env"
    if content is not None:
        file.write_bytes(content)
    done = serve(*OPTIONS_OF_SERVE, f"--env-file={file}")
    assert done.returncode == 2
    assert told in done.stderr
    assert str(file) in done.stderr
    assert "Traceback" not in done.stderr
