"""Bodies on their way: how many, how large, how long."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import weakref
from typing import Any

import pytest
from quart import request

from ml.serving.intake import Intake
from tests.conftest import MakeApp
from tests.support.requests import JSON, body, eventually, is_error, open_post, post
from tests.support.workflows import Echo, SlowAsync

LATE = {"Content-Length": "1000"}


async def answer(connection: Any) -> Any:
    """Return the answer to a request whose body was not sent to its end."""
    data = await asyncio.wait_for(connection.receive(), 10)
    await connection.disconnect()
    connection.response_data.extend(data)
    return await connection.as_response()


async def wait_for(intake: Intake, arriving: Any) -> None:
    async with arriving.limit():
        await asyncio.sleep(30)


@pytest.mark.parametrize("limits", [{"most_bodies": 2}, {"most_bytes": 25}])
async def test_beyond_the_limits_the_body_that_began_first_is_given_up(
    limits: dict[str, int],
) -> None:
    intake = Intake(**({"most_bodies": 100, "most_bytes": 100, "seconds": 30} | limits))
    bodies = [intake.begin(1000) for _ in range(2)]
    for arriving in bodies:
        arriving.add(10)
    waits = [asyncio.create_task(wait_for(intake, arriving)) for arriving in bodies]
    await asyncio.sleep(0)
    bodies.append(intake.begin(1000))
    bodies[-1].add(10)
    done, _ = await asyncio.wait(waits, timeout=5, return_when=asyncio.FIRST_COMPLETED)
    assert done == {waits[0]}
    assert isinstance(waits[0].exception(), TimeoutError)
    assert intake.count == 2
    assert intake.held_bytes == 20
    for arriving in bodies:
        arriving.end()
    assert (intake.count, intake.held_bytes) == (0, 0)
    waits[1].cancel()


async def test_what_goes_to_a_disk_counts_up_to_its_limit_and_has_time_for_more() -> None:
    intake = Intake(most_bodies=10, most_bytes=100, seconds=10)
    arriving = intake.begin(50)
    for _ in range(4):
        arriving.add(50)
    assert intake.held_bytes == 50
    loop = asyncio.get_running_loop()
    assert 35 < (arriving.limit().when() or 0) - loop.time() < 41
    arriving.end()


@pytest.mark.parametrize("path", ["/service_output", "/nothing"])
async def test_a_body_that_does_not_arrive_takes_no_place_and_is_given_up(
    make_app: MakeApp, path: str
) -> None:
    app = await make_app(SlowAsync, body_timeout_seconds=0.3, max_in_flight=1)
    async with open_post(app, path=path, **LATE) as connection:
        await connection.send(b"{")
        await eventually(lambda: app.intake.count == 1)
        assert app.admission.in_flight == 0
        assert (await post(app, 0)).status_code == 200
        response = await answer(connection)
    assert response.status_code in (408, 404)
    if path == "/service_output":
        await is_error(response, 408)
        assert response.headers["Connection"] == "close"
    await eventually(lambda: app.intake.count == 0)
    assert app.intake.held_bytes == 0


async def test_a_client_that_leaves_with_half_a_body_leaves_nothing(make_app: MakeApp) -> None:
    app = await make_app(Echo)
    for path in ("/service_output", "/nothing"):
        with contextlib.suppress(Exception):
            async with open_post(app, path=path, **LATE) as connection:
                await connection.send(b"{" * 500)
                if path == "/service_output":
                    await eventually(lambda: app.intake.held_bytes == 500)
                await connection.disconnect()
        await eventually(lambda: (app.intake.count, app.intake.held_bytes) == (0, 0))


async def test_the_last_place_goes_to_the_body_that_is_here_first(make_app: MakeApp) -> None:
    app = await make_app(SlowAsync, max_in_flight=1)
    async with open_post(app, **LATE) as slow:
        await slow.send(b" ")
        busy = asyncio.create_task(post(app, 30))
        await eventually(lambda: app.admission.in_flight == 1)
        content = body(0)
        await slow.send(content)
        await slow.send_complete()
        await is_error(await answer(slow), 503)
    busy.cancel()
    await asyncio.gather(busy, return_exceptions=True)


async def test_a_refusal_waits_for_a_small_body_and_says_when_it_ends_the_connection(
    make_app: MakeApp,
) -> None:
    app = await make_app(Echo, api_keys="key")
    for length, sent, closes in ((100, 100, False), (100, 0, True), (10**6, 0, True)):
        async with open_post(app, **{"Content-Length": str(length)}) as connection:
            if sent:
                await connection.send(b" " * sent)
                await connection.send_complete()
            response = await answer(connection)
        await is_error(response, 401)
        assert (response.headers.get("Connection") == "close") == closes


async def test_the_log_says_why_a_request_was_refused_and_not_what_was_sent(
    make_app: MakeApp, log_lines: Any
) -> None:
    app = await make_app(Echo)
    client = app.test_client()
    await client.post("/service_output", data=json.dumps({"source": 1, "secret_field": "hunter22"}))
    await client.post("/service_output", data=b'{"source": 7771, "data": "hunter22"}')
    await client.get("/nothing/hunter22")
    await client.get("/config")
    lines = {line["request_id"]: line for line in log_lines() if line["event"] == "request"}
    refused = [line for line in lines.values() if line["status"] >= 400]
    assert [(line["code"], line["name"]) for line in refused] == [
        ("400", "Bad Request"),
        ("400", "Bad Request"),
        ("404", "Not Found"),
    ]
    assert all(line["description"] for line in refused[:2])
    for line in refused:
        assert "hunter22" not in line.get("description", "")
        assert "7771" not in line.get("description", "")
    assert not any("code" in line for line in lines.values() if line["status"] < 400)


async def test_a_view_that_waits_for_its_body_is_given_up_with_it(make_app: MakeApp) -> None:
    app = await make_app(Echo, body_timeout_seconds=0.3)

    @app.post("/reads")
    async def reads() -> dict[str, int]:
        return {"bytes": sum([len(part) async for part in request.body])}

    async with open_post(app, path="/reads", **LATE) as connection:
        await connection.send(b"{" * 10)
        response = await answer(connection)
    await is_error(response, 408)
    response = await app.test_client().post("/reads", data=b"{" * 10, headers=JSON)
    assert await response.get_json() == {"bytes": 10}
    await eventually(lambda: app.intake.count == 0)


async def test_a_request_that_was_refused_holds_its_connection_no_longer(
    make_app: MakeApp,
) -> None:
    """granian closes a connection once nothing knows its request; a collection may be far away."""
    app = await make_app(Echo, body_timeout_seconds=0.1, api_keys="key")

    class Receive:
        async def __call__(self) -> Any:
            await asyncio.sleep(30)

    async def send(message: Any) -> None:
        pass

    gc.collect()
    gc.disable()
    try:
        for key in (b"key", b"wrong"):
            receive = Receive()
            known = weakref.ref(receive)
            scope = {
                "type": "http",
                "method": "POST",
                "path": "/service_output",
                "query_string": b"",
                "headers": [(b"content-length", b"9"), (b"authorization", b"Bearer " + key)],
                "http_version": "1.1",
                "scheme": "http",
            }
            await app(scope, receive, send)
            del receive
            await asyncio.sleep(0.01)
            assert known() is None
    finally:
        gc.enable()
