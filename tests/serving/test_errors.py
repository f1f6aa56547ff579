"""Every failure is one JSON form, with its status, a request id, and nothing internal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import MakeApp
from tests.support.requests import JSON, STREAM, body, is_error, open_post, post
from tests.support.workflows import Echo, Failing, Pieces, Slow, WrongJson

LogLines = Callable[[], list[dict[str, Any]]]


async def response_to(connection: Any) -> Any:
    """Return the response to a request whose body the test did not end."""
    data = await asyncio.wait_for(connection.receive(), 10)
    await connection.disconnect()
    connection.response_data.extend(data)
    return await connection.as_response()


async def test_400_for_a_bad_message(make_app: MakeApp) -> None:
    client = (await make_app(Echo)).test_client()
    for content in (b"", b"{", b"[]", body("abc", source=0), b'{"source": 1, "data": [NaN]}'):
        response = await client.post("/service_output", data=content, headers=JSON)
        assert await is_error(response, 400)


@pytest.mark.parametrize("path", ["/nothing", "/service_output/", "/health/x", "/assets/docs/x.js"])
async def test_404_for_an_unknown_address(make_app: MakeApp, path: str) -> None:
    await is_error(await (await make_app(Echo)).test_client().get(path), 404)


async def test_405_names_the_methods_that_work(make_app: MakeApp) -> None:
    client = (await make_app(Echo)).test_client()
    response = await client.get("/service_output")
    await is_error(response, 405)
    assert "POST" in response.headers["Allow"]
    response = await client.post("/metrics")
    await is_error(response, 405)
    assert "GET" in response.headers["Allow"]


async def test_408_for_a_body_that_does_not_arrive(make_app: MakeApp) -> None:
    app = await make_app(Echo, body_timeout_seconds=0.05)
    async with open_post(app) as connection:
        await connection.send(b'{"source"')
        await is_error(await response_to(connection), 408)
    assert app.admission.in_flight == 0


async def test_413_by_the_announced_length_without_reading(make_app: MakeApp) -> None:
    app = await make_app(Echo, max_body_bytes=100)
    headers = {"Content-Length": "101"}
    async with open_post(app, **headers) as connection:
        assert "101" in await is_error(await response_to(connection), 413)


async def test_413_for_pieces_that_add_up_to_too_much(make_app: MakeApp) -> None:
    app = await make_app(Echo, max_body_bytes=100)
    async with open_post(app) as connection:
        await connection.send(b"x" * 60)
        await connection.send(b"x" * 60)
        assert "100" in await is_error(await response_to(connection), 413)


async def test_a_body_of_just_the_limit_is_read(make_app: MakeApp) -> None:
    content = body("x")
    app = await make_app(Echo, max_body_bytes=len(content))
    response = await app.test_client().post("/service_output", data=content, headers=JSON)
    assert response.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
async def test_415_for_what_is_not_plain_json(make_app: MakeApp, headers: dict[str, str]) -> None:
    client = (await make_app(Echo)).test_client()
    await is_error(await client.post("/service_output", data=body(1), headers=headers), 415)


async def test_500_tells_nothing_internal_and_the_log_tells_all_under_the_request_id(
    make_app: MakeApp, log_lines: LogLines
) -> None:
    response = await post(await make_app(Failing), "x")
    described = await is_error(response, 500)
    request_id = response.headers["X-Request-ID"]
    assert "secret" not in described
    assert "Traceback" not in described
    assert request_id in described
    [line] = [line for line in log_lines() if line["event"] == "request_failed"]
    assert line["request_id"] == request_id
    assert "a secret place: 10.9.8.7" in line["exception"]
    assert "do_run_model" in line["exception"]


async def test_500_for_an_output_that_json_cannot_hold(make_app: MakeApp) -> None:
    assert "object" in await is_error(await post(await make_app(WrongJson), {}), 500)


async def test_a_time_out_of_the_models_own_is_no_504(make_app: MakeApp) -> None:
    await is_error(await post(await make_app(Failing), "timeout"), 500)


async def test_a_hook_that_raises_stop_iteration_fails_at_once(make_app: MakeApp) -> None:
    app = await make_app(Failing, request_timeout_seconds=0.5)
    await is_error(await post(app, "stop iteration"), 500)


async def test_a_hook_that_calls_exit_fails_its_request_and_not_the_service(
    make_app: MakeApp,
) -> None:
    app = await make_app(Failing)
    await is_error(await post(app, "exit"), 500)
    await is_error(await post(app, "not ready"), 503)


async def test_507_for_a_model_out_of_memory(make_app: MakeApp) -> None:
    await is_error(await post(await make_app(Failing), "memory"), 507)


async def test_503_of_the_workflow_says_when_to_come_again(make_app: MakeApp) -> None:
    response = await post(await make_app(Failing), "not ready")
    assert await is_error(response, 503) == "The model is away."
    assert response.headers["Retry-After"] == "7"


async def test_504_after_the_deadline(make_app: MakeApp) -> None:
    app = await make_app(Slow, request_timeout_seconds=0.1)
    assert "0.1 seconds" in await is_error(await post(app, 30), 504)
    assert app.metrics.registry.get_sample_value("requests_timed_out_total") == 1


async def test_504_for_a_stream_whose_first_piece_is_late(make_app: MakeApp) -> None:
    app = await make_app(Pieces, request_timeout_seconds=0.1)
    await is_error(await post(app, [{"wait": 30}], destination=STREAM), 504)


async def test_an_error_in_a_page_is_the_same_form(make_app: MakeApp) -> None:
    app = await make_app(Echo)

    @app.get("/broken")
    async def broken() -> str:
        raise RuntimeError("a secret place")

    assert "secret" not in await is_error(await app.test_client().get("/broken"), 500)


async def test_a_sane_request_id_is_taken_over(make_app: MakeApp) -> None:
    app = await make_app(Failing)
    for given in ("abc-123_X.y", "a" * 128):
        response = await post(app, "x", headers={"X-Request-ID": given})
        assert response.headers["X-Request-ID"] == given
    response = await app.test_client().get("/nothing", headers={"X-Request-ID": "mine"})
    assert response.headers.getlist("X-Request-ID") == ["mine"]


@pytest.mark.parametrize("given", ["", "a b", "a" * 129, "a\tb", "<script>", "é", 'x","level":"x'])
async def test_a_strange_request_id_is_replaced(make_app: MakeApp, given: str) -> None:
    response = await post(await make_app(Echo), 1, headers={"X-Request-ID": given})
    assert response.headers["X-Request-ID"] != given
    assert len(response.headers["X-Request-ID"]) == 32


async def test_each_request_has_an_id_of_its_own(make_app: MakeApp) -> None:
    app = await make_app(Echo)
    replies = await asyncio.gather(*(post(app, n) for n in range(5)))
    assert len({reply.headers["X-Request-ID"] for reply in replies}) == 5


async def test_a_success_of_any_address_has_a_request_id(make_app: MakeApp) -> None:
    response = await (await make_app(Echo)).test_client().get("/")
    assert response.headers["X-Request-ID"]
    assert set(json.loads(await response.get_data())) == {"name", "version", "workflow"}


@pytest.mark.parametrize(
    "path", ["//service_output", "/service_output/", "/service_output//", "/./service_output"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"])
async def test_other_spellings_of_an_address_that_runs_the_model_never_fail(
    make_app: MakeApp, path: str, method: str
) -> None:
    client = (await make_app(Echo)).test_client()
    response = await client.open(path, method=method, data=body("x"), headers=JSON)
    assert response.status_code < 500
    if method == "POST":
        assert response.status_code in (200, 308, 404)
