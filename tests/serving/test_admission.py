"""How many requests are taken on, how long they may take, and what happens when a client leaves."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from ml.errors import Overloaded
from ml.serving.admission import Admission
from tests.conftest import MakeApp
from tests.support.requests import STREAM, body, eventually, is_error, open_post, post
from tests.support.unloaded import Gated
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


SMALL = {"Content-Length": str(len(body(0)))}
LARGE = {"Content-Length": "100000"}


async def taken(app: Any) -> list[asyncio.Task[Any]]:
    """Take all places until a test cancels the requests."""
    busy = [asyncio.create_task(post(app, 30)) for _ in range(app.admission.limit)]
    await eventually(lambda: app.admission.in_flight == len(busy))
    return busy


async def give_back(*busy: asyncio.Task[Any]) -> None:
    for task in busy:
        task.cancel()
    await asyncio.gather(*busy, return_exceptions=True)


@pytest.mark.parametrize(("seconds", "headers"), [(0, SMALL), (0.2, SMALL), (60, LARGE)])
async def test_beyond_the_limit_a_request_is_refused_after_its_wait_and_a_large_one_unread(
    make_app: MakeApp, seconds: float, headers: dict[str, str]
) -> None:
    app = await make_app(SlowAsync, max_in_flight=2, max_wait_seconds=seconds)
    busy = await taken(app)
    started = time.monotonic()
    async with open_post(app, **headers) as connection:
        if headers is SMALL:
            await connection.send(body(0))
            await connection.send_complete()
        data = await asyncio.wait_for(connection.receive(), 20)
        connection.response_data.extend(data)
        response = await connection.as_response()
    assert time.monotonic() - started >= (seconds if headers is SMALL else 0)
    await is_error(response, 503)
    assert response.headers["Retry-After"] == "1"
    assert count(app, "requests_shed_total") == 1
    await give_back(*busy)
    assert app.admission.in_flight == 0


async def test_who_waits_gets_the_place_that_is_free_and_the_newest_is_first(
    make_app: MakeApp,
) -> None:
    app = await make_app(SlowAsync, max_in_flight=1, max_wait_seconds=60)
    [busy] = await taken(app)
    answered: list[int] = []

    async def ask(number: int) -> None:
        assert (await post(app, 0, headers=SMALL)).status_code == 200
        answered.append(number)

    waiting = []
    for number in range(4):
        waiting.append(asyncio.create_task(ask(number)))
        await eventually(lambda: app.admission.waiting == len(waiting))
    await give_back(busy, waiting[2])
    await asyncio.gather(waiting[0], waiting[1], waiting[3])
    assert answered == [3, 1, 0]
    assert app.admission.in_flight == 0


async def test_the_wait_for_a_place_counts_in_the_deadline(make_app: MakeApp) -> None:
    app = await make_app(
        Gated, loaded=False, max_in_flight=1, max_wait_seconds=60, request_timeout_seconds=60
    )
    requests = [asyncio.create_task(post(app, 1, headers=SMALL)) for _ in range(2)]
    await eventually(lambda: app.admission.waiting == 1)
    await asyncio.sleep(0.2)
    app.workflow.gate.set()
    for request in requests:
        assert json.loads(await (await request).get_data()) < 59.8


async def test_nobody_waits_for_a_place_beyond_the_deadline(make_app: MakeApp) -> None:
    app = await make_app(SlowAsync, max_in_flight=1, max_wait_seconds=60, request_timeout_seconds=1)
    first, second = (asyncio.create_task(post(app, 30, headers=SMALL)) for _ in range(2))
    await is_error(await asyncio.wait_for(first, 20), 504)
    assert (await asyncio.wait_for(second, 20)).status_code in (503, 504)
    assert app.admission.in_flight == 0


async def test_a_place_that_was_given_to_one_who_leaves_goes_to_the_next() -> None:
    admission = Admission(limit=1, wait_seconds=60)
    await admission.enter()
    first, second = (asyncio.create_task(admission.enter()) for _ in range(2))
    await eventually(lambda: admission.waiting == 2)
    admission.leave()
    second.cancel()
    await asyncio.wait_for(first, 20)
    assert (await asyncio.gather(second, return_exceptions=True))[0].__class__ is (
        asyncio.CancelledError
    )
    admission.leave()
    assert (admission.in_flight, admission.waiting) == (0, 0)


async def test_the_line_has_an_end_and_whoever_waits_longest_makes_room() -> None:
    admission = Admission(limit=1, wait_seconds=60)
    await admission.enter()
    tasks = [asyncio.create_task(admission.enter()) for _ in range(2049)]
    with pytest.raises(Overloaded):
        await asyncio.wait_for(tasks[0], 20)
    assert admission.waiting == 2048
    await give_back(*tasks[1:])


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
