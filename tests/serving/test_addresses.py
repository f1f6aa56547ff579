"""Settings that are addresses are checked as such before anything is asked at them."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT, clean_environment

TGI, TRAINER, PROOFS, CLASSIC = (
    "tgi_client_inference_service",
    "unsloth_trainer_service",
    "ezkl_proof_service",
    "classic_ml_inference_service",
)
SECRET = "hunter2"
#: What is no address of the web.
NO_WEB = [
    f"http://u:{SECRET}@host:abc",
    f"http://u:{SECRET}@host:99999",
    f"http://u:{SECRET}@host:0",
    f"http://u:{SECRET}@ho st",
    f"u:{SECRET}@host:8080",
    f"ftp://u:{SECRET}@host",
    f"http://u:{SECRET}@",
    f"http://u:{SECRET}@[::1",
    "http://",
    "http:/host",
]
#: What is no address of a job store.
NO_STORE = [
    f"postgresql+asyncpg://u:{SECRET}@h:abc/x",
    f"postgresql://u:{SECRET}@h:99999/x",
    f"postgresql://u:{SECRET}@h h/x",
    f"postgresql://u:{SECRET}@[::1/x",
    f"mysql://u:{SECRET}@h/x",
    f"u:{SECRET}@h/x",
    "sqlite://",
]
#: A service, a variable with its wrong value, and what the one line that tells of it begins with.
WRONG: list[tuple[str, str, str, str]] = [
    *[(TRAINER, "QUERY_ENGINE_URL", url, "QUERY_ENGINE_URL: ") for url in NO_WEB],
    (TRAINER, "TRAINER_DASHBOARD_URL", NO_WEB[0], "TRAINER_DASHBOARD_URL: "),
    (TRAINER, "TRAINER_DASHBOARD_PORT", "99999", "TRAINER_DASHBOARD_PORT: "),
    (TRAINER, "QUERY_SIGNERS", "0x12", "QUERY_SIGNERS.0: "),
    (TRAINER, "QUERY_SIGNERS", "11" * 20, "QUERY_SIGNERS.0: "),
    *[(TRAINER, "TRAINER_DATABASE_URL", url, "TRAINER_DATABASE_URL: ") for url in NO_STORE],
    *[(PROOFS, "EZKL_DATABASE_URL", url, "EZKL_DATABASE_URL: ") for url in NO_STORE[:1]],
    *[
        (TGI, "TGI_INF_WORKFLOW_POSITIONAL_ARGS", json.dumps([url, 30]), "server_url: ")
        for url in NO_WEB
    ],
    (TGI, "TGI_INF_WORKFLOW_KW_ARGS", json.dumps({"server_url": NO_WEB[0]}), "server_url: "),
    *[
        (TRAINER, "TRAINER_WORKFLOW_KW_ARGS", json.dumps({name: wrong}), f"{name}: ")
        for name, wrong in (("query_engine_url", NO_WEB[0]), ("database_url", NO_STORE[0]))
    ],
    (
        PROOFS,
        "EZKL_WORKFLOW_KW_ARGS",
        json.dumps({"database_url": NO_STORE[0]}),
        "database_url: ",
    ),
    *[
        (CLASSIC, "CLASSIC_INF_ALLOWED_ORIGINS", origin, "CLASSIC_INF_ALLOWED_ORIGINS: ")
        for origin in ("https://host:abc", "https://host:99999", "host")
    ],
    *[
        (CLASSIC, "CLASSIC_INF_ALLOWED_HOSTS", host, "CLASSIC_INF_ALLOWED_HOSTS: ")
        for host in ("https://api.example.com", "api.example.com:443")
    ],
]
#: What else a service needs to start.
NEEDED = {
    CLASSIC: {"CLASSIC_INF_WORKFLOW_KW_ARGS": '{"model": "iris.torch"}'},
    PROOFS: {"EZKL_WORKFLOW_POSITIONAL_ARGS": '["iris"]'},
}
RIGHT = [
    (TRAINER, "QUERY_ENGINE_URL", "https://user:p%40ss@queries.example:8443/v1"),
    (TRAINER, "QUERY_ENGINE_URL", "HTTP://[::1]:80"),
    (TRAINER, "TRAINER_DASHBOARD_URL", "/dashboard"),
    (TRAINER, "TRAINER_DATABASE_URL", "postgresql+asyncpg://u:p#s@h/x?sslmode=require"),
    (TRAINER, "TRAINER_DATABASE_URL", "postgresql:///x?host=/var/run/postgresql"),
    (TGI, "TGI_INF_WORKFLOW_POSITIONAL_ARGS", '["http://tgi_1:80/", 30]'),
    (CLASSIC, "CLASSIC_INF_ALLOWED_ORIGINS", "chrome-extension://abcdef,https://a.b:8443,*"),
    (CLASSIC, "CLASSIC_INF_ALLOWED_HOSTS", "api.example.com,*"),
]


def create(
    monkeypatch: pytest.MonkeyPatch, folder: Path, service: str, variable: str, value: str
) -> Any:
    monkeypatch.setenv("WORKING_PATH", str(folder))
    for name, needed in {**NEEDED.get(service, {}), variable: value}.items():
        monkeypatch.setenv(name, needed)
    return importlib.import_module(service).create_app()


@pytest.mark.parametrize(("service", "variable", "value", "told"), WRONG)
def test_what_is_no_address_is_one_line_that_names_the_setting_and_hides_the_password(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    service: str,
    variable: str,
    value: str,
    told: str,
) -> None:
    with pytest.raises(SystemExit) as caught:
        create(monkeypatch, tmp_path, service, variable, value)
    assert caught.value.code == 2
    printed = capfd.readouterr().err
    head, *lines, tail = printed.splitlines()
    assert head.startswith(f"{service} cannot start")
    [line] = [line for line in lines if "for example" not in line]
    assert told in line
    assert tail.startswith("`serve")
    assert SECRET not in printed


@pytest.mark.parametrize(("service", "variable", "value"), RIGHT)
def test_addresses_of_each_form_are_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, service: str, variable: str, value: str
) -> None:
    assert create(monkeypatch, tmp_path, service, variable, value).name == service


@pytest.mark.parametrize("options", [[], ["--check"]], ids=["serve", "check"])
def test_serve_ends_with_code_2_over_an_address_that_is_none(options: list[str]) -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "serve", TRAINER, "--bind=127.0.0.1:0", *options],
        env=clean_environment(TRAINER_DATABASE_URL=NO_STORE[0]),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("TRAINER_DATABASE_URL: ") == 1
    assert SECRET not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
