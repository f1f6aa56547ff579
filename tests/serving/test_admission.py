"""How many requests are taken on, how long they may take, and what happens when a client leaves."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeApp
from tests.support.requests import STREAM, body, eventually, is_error, open_post, post
from tests.support.workflows import Echo, Pieces, Slow, SlowAsync


def count(app: Any, name: str) -> float:
    value: float = app.metrics.registry.get_sample_value(name)
    return value


def events(journal: Path) -> list[str]:
    return [line.split()[0] for line in journal.read_text().splitlines()]


async def leave(app: Any, data: Any, *, when: Any, **fields: Any) -> None:
    """Send a message, and close the connection as soon as `when()` holds."""
    async with open_post(app) as connection:
        await connection.send(body(data, **fields))
        await connection.send_complete()
        await eventually(when)
        await connection.disconnect()


async def test_beyond_the_limit_a_request_is_refused_at_once_and_unread(make_app: MakeApp) -> None:
    app = await make_app(SlowAsync, max_in_flight=2)
    busy = [asyncio.create_task(post(app, 30)) for _ in range(2)]
    await eventually(lambda: app.admission.in_flight == 2)
    async with open_post(app) as connection:  # not a byte of its body is sent
        data = await asyncio.wait_for(connection.receive(), 5)
        connection.response_data.extend(data)
        response = await connection.as_response()
    await is_error(response, 503)
    assert response.headers["Retry-After"] == "1"
    assert count(app, "requests_shed_total") == 1
    for task in busy:
        task.cancel()
    await asyncio.gather(*busy, return_exceptions=True)


async def test_a_place_is_free_again_after_an_answer_an_error_and_a_deadline(
    make_app: MakeApp,
) -> None:
    app = await make_app(SlowAsync, max_in_flight=1, request_timeout_seconds=0.2)
    for data, status in ((0, 200), ("x", 500), (30, 504), (0, 200)):
        assert (await post(app, data)).status_code == status
    assert app.admission.in_flight == 0
    assert count(app, "requests_in_flight") == 0


async def test_other_addresses_answer_while_all_places_are_taken(make_app: MakeApp) -> None:
    app = await make_app(SlowAsync, max_in_flight=1)
    busy = asyncio.create_task(post(app, 30))
    await eventually(lambda: app.admission.in_flight == 1)
    response = await app.test_client().get("/health/ready")
    assert response.status_code == 200
    assert json.loads(await response.get_data())["state"] == "busy"
    busy.cancel()
    await asyncio.gather(busy, return_exceptions=True)


async def test_past_the_deadline_a_plain_hook_sees_that_nobody_waits(
    make_app: MakeApp, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    app = await make_app(Slow, workflow_positional_args=[str(journal)], request_timeout_seconds=0.1)
    await is_error(await post(app, 30), 504)
    await eventually(lambda: events(journal) == ["started", "cancelled"])


async def test_past_the_deadline_an_async_hook_is_cancelled(make_app: MakeApp) -> None:
    SlowAsync.events.clear()
    app = await make_app(SlowAsync, request_timeout_seconds=0.1)
    await is_error(await post(app, 30), 504)
    assert SlowAsync.events == ["started", "cancelled"]


async def test_a_client_that_leaves_stops_a_plain_hook(make_app: MakeApp, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    app = await make_app(Slow, workflow_positional_args=[str(journal)])
    await leave(app, 30, when=journal.exists)
    await eventually(lambda: events(journal) == ["started", "cancelled"])
    assert count(app, "requests_cancelled_total") == 1
    assert app.admission.in_flight == 0


async def test_a_client_that_leaves_stops_an_async_hook(make_app: MakeApp) -> None:
    SlowAsync.events.clear()
    app = await make_app(SlowAsync)
    await leave(app, 30, when=lambda: SlowAsync.events)
    assert SlowAsync.events == ["started", "cancelled"]
    assert count(app, "requests_cancelled_total") == 1
    assert (await post(app, 0)).status_code == 200


async def test_a_client_that_leaves_closes_its_stream(make_app: MakeApp) -> None:
    app = await make_app(Pieces)
    Pieces.closed.clear()
    async with open_post(app) as connection:
        await connection.send(body(["a", {"wait": 30}, "b"], destination=STREAM))
        await connection.send_complete()
        assert await connection.receive() == b"a"
        await connection.disconnect()
    await eventually(lambda: Pieces.closed == ["plain"])
    assert count(app, "requests_cancelled_total") == 1
    assert app.admission.in_flight == 0


async def test_a_client_that_leaves_before_its_body_is_whole_takes_no_place(
    make_app: MakeApp,
) -> None:
    app = await make_app(Echo)
    async with open_post(app) as connection:
        await connection.send(b'{"source": 1')
        await connection.disconnect()
    assert app.admission.in_flight == 0


@pytest.mark.parametrize("workflow", [SlowAsync, Slow])
async def test_concurrent_requests_are_worked_on_together(
    make_app: MakeApp, workflow: type
) -> None:
    app = await make_app(workflow)
    loop = asyncio.get_running_loop()
    started = loop.time()
    replies = await asyncio.gather(*(post(app, 0.5) for _ in range(16)))
    assert [reply.status_code for reply in replies] == [200] * 16
    assert loop.time() - started < 0.5 * 16 / 2
