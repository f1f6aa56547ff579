"""No secret is shown: by its name, by its form, at any depth."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from ml.serving.hiding import hide_arguments, hide_in_text, hide_secrets
from tests.conftest import MakeApp
from tests.support.workflows import Echo, Refusing

#: Stands in every secret below, and nowhere else.
MARK = "s3cr3t"

DATA: list[Any] = [
    {"token": MARK},
    {"hf_token": MARK},
    {"hubToken": MARK},
    {"accessToken": MARK},
    {"apiKey": MARK},
    {"X-API-Key": MARK},
    {"password": {"is": [MARK]}},
    {"client_secret": MARK},
    {"passphrase": MARK},
    {"auth": ["me", MARK]},
    {"Authorization": f"Bearer {MARK}"},
    {"cookies": {"session": MARK}},
    {"Set-Cookie": f"a={MARK}"},
    {"headers": {"X-Anything": MARK}},
    {"headers": [["X-Anything", MARK]]},
    [["Authorization", MARK], ["x-api-key", MARK]],
    {"a": [{"b": [{"private_key": MARK}]}]},
]
TEXTS = [
    f"http://user:{MARK}@host:80/path",
    f"http://{MARK}@host",
    f"user:{MARK}@host",
    f"no route to user:{MARK}@host:80",
    f"https://host/path#token={MARK}",
    f"postgresql+asyncpg://me:{MARK}@host/db",
    f"redis://:{MARK}@host",
    f"no route to https://u:p@{MARK}@host/x, giving up",
    f"https://host/path?api_key={MARK}&x=1",
    f"https://host/path?x=1&access_token={MARK}#y",
    f"https://host/path?X-Amz-Signature={MARK}",
    f"https://host/?sig={MARK}",
    f"host=db password={MARK} user=me",
    f"TGI_INF_TOKEN={MARK}",
    f"sent Authorization: Bearer {MARK}",
    f"sent bearer {MARK}",
    f"Basic {MARK}==",
    f"Cookie: session={MARK}; other={MARK}",
    f"{{'Authorization': '{MARK}'}}",
    f"the hub refuses hf_{MARK}abcdefgh",
    f"sk-{MARK}-abcdefghij",
]
HARMLESS: list[Any] = [
    {"tokenizer": "slow", "max_tokens": 5, "keyboard": "x", "monkey": 1, "max_new_tokens": 3},
    {"url": "http://host:80/path?x=1&model=a#b"},
    {"text": "a basic question about cookies", "n": 1, "none": None, "flag": True},
    {"model_source": "HUB", "model_args": {"repo_id": "owner/name", "path": "/mnt/a@b"}},
]


@pytest.mark.parametrize("data", [*DATA, *({"text": text} for text in TEXTS)])
def test_a_secret_is_hidden(data: Any) -> None:
    for depth in (data, [data], {"a": {"b": data}}):
        shown = json.dumps(hide_secrets(depth))
        assert MARK not in shown
        assert "**********" in shown


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_no_secret_stays_beside_one(text: str) -> None:
    shown = hide_in_text(text)
    assert MARK not in shown
    for part in ("host", "password=", "api_key=", "x=1", "giving up"):
        assert (part in shown) == (part in text)


@pytest.mark.parametrize("data", HARMLESS)
def test_what_is_no_secret_is_shown(data: Any) -> None:
    assert hide_secrets(data) == data


def test_positional_arguments_are_hidden_by_the_names_of_their_parameters() -> None:
    parameters = ["server_url", "connection_timeout", "headers", "cookies"]
    given = [f"http://u:{MARK}@host:80", 30, {"X-One": MARK}, {"a": MARK}, [MARK]]
    shown = hide_arguments(given[:4], parameters)
    assert shown[:2] == ["http://**********@host:80", 30]
    assert MARK not in json.dumps(shown)
    assert len(hide_arguments(given, parameters)) == 5


async def test_config_and_log_show_no_secret(
    make_app: MakeApp, log_lines: Callable[[], list[dict[str, Any]]]
) -> None:
    app = await make_app(
        Echo,
        workflow_positional_args=[f"http://u:{MARK}@host", {"Authorization": f"Bearer {MARK}"}],
        workflow_kw_args={"headers": {"X-Any": MARK}, "url": f"http://h/?token={MARK}"},
    )
    response = await app.test_client().get("/config")
    assert response.status_code == 200
    assert MARK not in (await response.get_data()).decode()
    log = structlog.get_logger("here")
    log.warning("upstream_failed", error=f"http://u:{MARK}@host does not answer", n=1)
    try:
        raise RuntimeError(f"GET http://host/?api_key={MARK}")
    except RuntimeError:
        log.exception("failed")
    lines = log_lines()
    assert {"upstream_failed", "failed"} <= {line["event"] for line in lines}
    assert MARK not in json.dumps(lines)


async def test_a_fault_of_settings_tells_no_secret(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        await make_app(Refusing, workflow_kw_args={"size": f"http://u:{MARK}@host"})
    told = capfd.readouterr().err
    assert "cannot start" in told
    assert MARK not in told
