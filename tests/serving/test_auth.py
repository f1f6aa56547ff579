"""Who may ask what."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

import pytest

from ml.serving.auth import PUBLIC_PATHS
from tests.conftest import MakeApp
from tests.support.requests import body, is_error, post
from tests.support.workflows import Echo

KEYS = "first-key,second-key"
LogLines = Callable[[], list[dict[str, Any]]]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_every_address_that_is_not_public_asks_for_a_key(make_app: MakeApp) -> None:
    app = await make_app(Echo, api_keys=KEYS)
    client = app.test_client()
    guarded = [rule for rule in app.url_map.iter_rules() if rule.rule not in PUBLIC_PATHS]
    assert {rule.rule for rule in guarded} >= {"/service_output", "/metrics", "/config"}
    for rule in guarded:
        path = re.sub(r"<[^>]*>", "x", rule.rule)
        for method in rule.methods:
            response = await client.open(path, method=method)
            assert response.status_code == 401, rule
            assert response.headers["WWW-Authenticate"] == "Bearer"
            if method != "HEAD":
                await is_error(response, 401)


async def test_every_public_address_exists_and_answers_without_a_key(make_app: MakeApp) -> None:
    app = await make_app(Echo, api_keys=KEYS)
    rules = {rule.rule for rule in app.url_map.iter_rules()}
    assert rules >= PUBLIC_PATHS
    for path in PUBLIC_PATHS:
        response = await app.test_client().get(path)
        assert response.status_code in (200, 204), path


async def test_an_address_that_does_not_exist_is_not_told_without_a_key(make_app: MakeApp) -> None:
    client = (await make_app(Echo, api_keys=KEYS)).test_client()
    for path in ("/nothing", "/metrics/", "//metrics", "/docs/../metrics", "/%6detrics"):
        await is_error(await client.get(path), 401)


@pytest.mark.parametrize("key", ["first-key", "second-key"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_any_of_several_keys_opens(make_app: MakeApp, key: str, scheme: str) -> None:
    app = await make_app(Echo, api_keys=KEYS)
    response = await post(app, 1, headers={"Authorization": f"{scheme} {key}"})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer first-ke",
        "Bearer first-key,second-key",
        "Bearer first-key second-key",
        "Basic first-key",
        "Basic Zmlyc3Qta2V5",
        "Digest first-key",
        "first-key",
        "Bearer né",
    ],
)
async def test_anything_else_stays_outside(make_app: MakeApp, authorization: str) -> None:
    app = await make_app(Echo, api_keys=KEYS)
    await is_error(await post(app, 1, headers={"Authorization": authorization}), 401)


async def test_a_browser_is_asked_for_the_key_as_a_password(make_app: MakeApp) -> None:
    client = (await make_app(Echo, api_keys=KEYS)).test_client()
    page = {"Accept": "text/html,application/xhtml+xml"}
    response = await client.get("/config", headers=page)
    assert response.status_code == 401
    challenges = response.headers.getlist("WWW-Authenticate")
    assert challenges[0] == "Bearer"
    assert challenges[1].startswith("Basic ")
    for password, status in (("second-key", 200), ("wrong", 401), ("", 401)):
        credentials = base64.b64encode(f"anybody:{password}".encode()).decode()
        response = await client.get("/config", headers={"Authorization": f"Basic {credentials}"})
        assert response.status_code == status


async def test_keys_may_be_a_json_list(make_app: MakeApp) -> None:
    app = await make_app(Echo, api_keys=["with,comma"])
    assert (await post(app, 1, headers=bearer("with,comma"))).status_code == 200
    assert (await post(app, 1, headers=bearer("with"))).status_code == 401


async def test_without_keys_it_is_open(make_app: MakeApp) -> None:
    app = await make_app(Echo)
    assert (await post(app, 1)).status_code == 200
    assert (await app.test_client().get("/metrics")).status_code == 200


async def test_a_stranger_takes_no_place_and_is_not_read(make_app: MakeApp) -> None:
    app = await make_app(Echo, api_keys=KEYS, max_body_bytes=10)
    client = app.test_client()
    response = await client.post("/service_output", data=body("x" * 100))
    await is_error(response, 401)


async def test_no_key_stands_in_the_log(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str]
) -> None:
    app = await make_app(Echo, api_keys=KEYS, log_level="DEBUG", log_payloads=True)
    for key in ("first-key", "a-wrong-key"):
        await post(app, 1, headers=bearer(key))
        await app.test_client().get("/config", headers=bearer(key))
    output = "".join(capfd.readouterr())
    assert output
    assert not re.search("(first|second|wrong)-key", output)
