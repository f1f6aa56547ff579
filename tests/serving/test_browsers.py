"""What a page in a browser may ask, and what programs are not asked for."""

from __future__ import annotations

import base64
import re
import socket
from typing import Any

import pytest

from tests.conftest import MakeApp
from tests.support.requests import body, is_error, post
from tests.support.workflows import Echo

EVIL = {"Origin": "http://evil.example"}
FRIEND = "https://friend.example"
PREFLIGHT = {
    "Origin": FRIEND,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type",
}
KEY = {"Authorization": "Bearer key"}
BASIC = {"Authorization": "Basic " + base64.b64encode(b"me:key").decode()}


async def writes(app: Any) -> list[tuple[str, str]]:
    """Return a path and a method for every write that the application knows."""
    return [
        (re.sub(r"<[^>]*>", "x", rule.rule), method)
        for rule in app.url_map.iter_rules()
        for method in sorted(rule.methods - {"GET", "HEAD", "OPTIONS"})
    ]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "http://localhost:80"}, 200),
        ({"Origin": "https://localhost"}, 200),  # a proxy in front speaks TLS
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.a.proxy"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        (EVIL, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://localhost:81"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "http://evil.example/localhost"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, 403),
    ],
)
async def test_a_write_of_another_origins_page_is_refused(
    make_app: MakeApp, headers: dict[str, str], status: int
) -> None:
    app = await make_app(Echo)
    response = await post(app, 1, headers={"Host": "localhost", **headers})
    assert response.status_code == status
    if status == 403:
        assert "ALLOWED_ORIGINS" in await is_error(response, 403)


@pytest.mark.parametrize("keys", [None, "key"])
async def test_no_write_of_a_page_elsewhere_passes_whatever_password_the_browser_keeps(
    make_app: MakeApp, keys: str | None
) -> None:
    app = await make_app(Echo, **({"api_keys": keys} if keys else {}))
    client = app.test_client()
    for path, method in [*await writes(app), ("/nothing", "POST"), ("/config", "DELETE")]:
        for headers in (EVIL | BASIC, BASIC | {"Sec-Fetch-Site": "cross-site"}):
            response = await client.open(path, method=method, headers=headers)
            assert response.status_code == 403, (path, method)


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost", True),
        ("localhost:4998", True),
        ("LOCALHOST.", True),
        ("127.0.0.1:4998", True),
        ("10.0.0.7", True),
        ("[::1]:4998", True),
        ("classic_ml_inference_service:3000", True),
        ("classic.default.svc.cluster.local:3000", True),
        ("host.docker.internal:4998", True),
        ("", True),
        (socket.gethostname(), True),
        ("evil.example", False),
        ("evil.example:4998", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("evil.example.", False),
    ],
)
async def test_without_keys_a_public_name_is_not_known(
    make_app: MakeApp, host: str, known: bool
) -> None:
    app = await make_app(Echo)
    response = await post(app, 1, headers={"Host": host})
    if known:
        assert response.status_code == 200
    else:
        assert "ALLOWED_HOSTS" in await is_error(response, 403)
    response = await app.test_client().get("/config", headers={"Host": host})
    assert response.status_code == (200 if known else 403)
    assert (await app.test_client().get("/health/ready", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("hosts", ["models.example", "*"])
async def test_a_public_name_is_known_when_it_is_listed(make_app: MakeApp, hosts: str) -> None:
    app = await make_app(Echo, allowed_hosts=hosts)
    for host, status in (
        ("models.example:80", 200),
        ("evil.example", 403 if hosts != "*" else 200),
    ):
        assert (await post(app, 1, headers={"Host": host})).status_code == status


async def test_with_keys_any_name_will_do(make_app: MakeApp) -> None:
    app = await make_app(Echo, api_keys="key")
    assert (await post(app, 1, headers=KEY | {"Host": "models.example"})).status_code == 200


async def test_by_default_no_page_elsewhere_is_told_anything(make_app: MakeApp) -> None:
    client = (await make_app(Echo)).test_client()
    response = await client.options("/service_output", headers=PREFLIGHT)
    assert "access-control" not in str(response.headers).lower()
    response = await client.get("/config", headers={"Origin": FRIEND})
    assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("origins", [FRIEND, f"https://other.example, {FRIEND}/", "*"])
async def test_a_page_of_an_allowed_origin_may_ask_read_and_write(
    make_app: MakeApp, origins: str
) -> None:
    app = await make_app(Echo, api_keys="key", allowed_origins=origins)
    client = app.test_client()
    allowed = "*" if origins == "*" else FRIEND
    response = await client.options("/service_output", headers=PREFLIGHT)  # no key comes with it
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == allowed
    assert response.headers["Access-Control-Allow-Headers"] == "authorization, content-type"
    assert "POST" in response.headers["Access-Control-Allow-Methods"]
    page = {"Origin": FRIEND, "Sec-Fetch-Site": "cross-site"}
    for response, status in (
        (await post(app, 1, headers=page | KEY), 200),
        (await post(app, 1, headers=page), 401),
        (await post(app, 1, source=9, headers=page | KEY), 400),
        (await client.get("/config", headers=page | KEY), 200),
        (await client.get("/nothing", headers=page | KEY), 404),
    ):
        assert response.status_code == status
        assert response.headers["Access-Control-Allow-Origin"] == allowed
        assert "X-Request-ID" in response.headers["Access-Control-Expose-Headers"]
    # The password that a browser keeps is no sign that the page was given it.
    assert (await post(app, 1, headers=page | BASIC)).status_code == 403


async def test_an_origin_that_is_not_listed_is_told_nothing(make_app: MakeApp) -> None:
    app = await make_app(Echo, allowed_origins=FRIEND)
    client = app.test_client()
    response = await client.options("/service_output", headers=PREFLIGHT | EVIL)
    assert "Access-Control-Allow-Origin" not in response.headers
    response = await client.get("/config", headers=EVIL)
    assert "Access-Control-Allow-Origin" not in response.headers
    assert response.headers["Vary"] == "Origin"


@pytest.mark.parametrize("origin", ["friend.example", "https://", "https://x/y", "*.example"])
async def test_what_is_no_origin_ends_the_start(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str], origin: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        await make_app(Echo, allowed_origins=origin)
    assert caught.value.code == 2
    assert "is no origin" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (None, 200),
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/vnd.api+json", 200),
        ("text/plain", 415),
        ("text/plain; application/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("", 415),
    ],
)
async def test_a_body_is_json(make_app: MakeApp, kind: str | None, status: int) -> None:
    client = (await make_app(Echo)).test_client()
    headers = {} if kind is None else {"Content-Type": kind}
    response = await client.post("/service_output", data=body(1), headers=headers)
    assert response.status_code == status
    if status == 415:
        assert "Content-Type: application/json" in await is_error(response, 415)


@pytest.mark.parametrize(
    "name",
    ["Authorization", "Content-Type", "Content-Length", "Host", "Origin", "X-Request-ID"],
)
async def test_of_a_header_that_decides_there_is_one(make_app: MakeApp, name: str) -> None:
    app = await make_app(Echo, api_keys="key")
    value = {"Authorization": KEY["Authorization"], "Content-Length": "10"}.get(name, "x")
    scope_headers = [(b"authorization", b"Bearer key")] * (name != "Authorization")
    scope_headers += [(name.lower().encode(), value.encode())] * 2
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body(1), "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/service_output",
        "query_string": b"",
        "headers": scope_headers,
        "http_version": "1.1",
        "scheme": "http",
    }
    await app(scope, receive, send)
    assert sent[0]["status"] == 400
    assert f"one {name.title()} header".encode() in sent[1]["body"]
