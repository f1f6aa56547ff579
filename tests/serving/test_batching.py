"""The model runs of concurrent requests are gathered into batches, and nobody pays for another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import pytest

from tests.conftest import MakeApp
from tests.support.requests import OFFCHAIN, ONCHAIN, body, eventually, is_error, open_post, post
from tests.support.workflows import Batched, BatchedAsync, Quick

BOTH = pytest.mark.parametrize("workflow", [Batched, BatchedAsync])
HOLD = 1001  # the workflow keeps this one's batch until its gate is open


async def value(response: Any) -> Any:
    assert response.status_code == 200
    return json.loads(await response.get_data())


async def held(app: Any, *numbers: Any, destinations: Sequence[int] = ()) -> list[Any]:
    """Send numbers while a batch is held, so that they wait together; return their responses."""
    holder = asyncio.create_task(post(app, HOLD))
    await eventually(app.workflow.entered.is_set)
    tasks = [
        asyncio.create_task(post(app, number, destination=destination))
        for number, destination in zip_longest(numbers, destinations, fillvalue=OFFCHAIN)
    ]
    await eventually(lambda: app.admission.in_flight == 1 + len(numbers))
    await asyncio.sleep(0.02)  # the last of them has to be in the queue, too
    app.workflow.gate.set()
    assert await value(await holder) == HOLD * 2
    return await asyncio.gather(*tasks)


@BOTH
async def test_a_lone_request_is_a_batch_of_one(make_app: MakeApp, workflow: type) -> None:
    app = await make_app(workflow)
    assert await value(await post(app, 21)) == 42
    assert app.workflow.sizes == [1]


@BOTH
async def test_concurrent_requests_form_batches(make_app: MakeApp, workflow: type) -> None:
    app = await make_app(workflow, batch_window_seconds=0.05)
    replies = await asyncio.gather(*(post(app, number) for number in range(40)))
    assert [await value(reply) for reply in replies] == [number * 2 for number in range(40)]
    assert sum(app.workflow.sizes) == 40
    assert max(app.workflow.sizes) > 5


@BOTH
async def test_what_waited_during_a_batch_is_the_next_one(
    make_app: MakeApp, workflow: type
) -> None:
    app = await make_app(workflow)
    replies = await held(app, *range(10))
    assert [await value(reply) for reply in replies] == [number * 2 for number in range(10)]
    assert app.workflow.sizes == [1, 10]
    metrics = app.metrics.registry.get_sample_value
    assert metrics("inference_batch_size_sum") == 11
    assert metrics("inference_batch_size_count") == 2
    assert metrics("inference_queue_seconds_count") == 11
    assert metrics("inference_queue_depth") == 0


async def test_no_batch_is_over_the_limit(make_app: MakeApp) -> None:
    app = await make_app(Batched, max_batch_size=4)
    await held(app, *range(10))
    assert app.workflow.sizes == [1, 4, 4, 2]


async def test_on_chain_and_off_chain_requests_share_a_batch(make_app: MakeApp) -> None:
    app = await make_app(Batched)
    replies = await held(app, 1, 2, destinations=[OFFCHAIN, ONCHAIN])
    assert await value(replies[0]) == 2
    assert set(await value(replies[1])) >= {"raw_input", "raw_output"}
    assert app.workflow.sizes == [1, 2]


@BOTH
async def test_an_item_that_is_wrong_fails_alone(make_app: MakeApp, workflow: type) -> None:
    app = await make_app(workflow)
    replies = await held(app, 1, "text", -1, 2)
    assert app.workflow.runs[1:] == [[1, -1, 2]]
    assert await value(replies[0]) == 2
    assert await is_error(replies[1], 400) == "data: give a whole number"
    assert await is_error(replies[2], 400) == "data: not -1"
    assert await value(replies[3]) == 4


@BOTH
async def test_a_batch_that_fails_as_a_whole_is_run_item_by_item(
    make_app: MakeApp, workflow: type
) -> None:
    app = await make_app(workflow)
    replies = await held(app, 1, -2, 2)
    assert await value(replies[0]) == 2
    await is_error(replies[1], 500)
    assert await value(replies[2]) == 4
    assert app.workflow.runs[1:] == [[1, -2, 2], [1], [-2], [2]]


@BOTH
async def test_a_batch_hook_that_loses_items_is_an_error_and_not_a_mix_up(
    make_app: MakeApp, workflow: type
) -> None:
    app = await make_app(workflow)
    replies = await held(app, 1, -3)
    assert await value(replies[0]) == 2
    # Alone, -3 gets the one output that its run returns.
    assert await value(replies[1]) == 0


@BOTH
@pytest.mark.parametrize("number", [-4, -5], ids=["StopIteration", "sys.exit"])
async def test_whatever_a_hook_raises_does_not_end_the_batches(
    make_app: MakeApp, workflow: type, number: int
) -> None:
    app = await make_app(workflow, request_timeout_seconds=5)
    await is_error(await post(app, number), 500)
    assert await value(await post(app, 1)) == 2


async def test_items_whose_clients_left_are_not_run(make_app: MakeApp) -> None:
    app = await make_app(Batched)
    holder = asyncio.create_task(post(app, HOLD))
    await eventually(app.workflow.entered.is_set)
    async with open_post(app) as leaving:
        await leaving.send(body(7))
        await leaving.send_complete()
        staying = asyncio.create_task(post(app, 8))
        await eventually(lambda: app.admission.in_flight == 3)
        await asyncio.sleep(0.02)
        await leaving.disconnect()
        await eventually(lambda: app.admission.in_flight == 2)
        app.workflow.gate.set()
    assert await value(await staying) == 16
    await holder
    assert app.workflow.runs == [[HOLD], [8]]


async def test_a_deadline_holds_while_a_batch_runs(make_app: MakeApp) -> None:
    app = await make_app(Batched, request_timeout_seconds=0.1)
    await is_error(await post(app, HOLD), 504)
    app.workflow.gate.set()
    assert await value(await post(app, 1)) == 2


async def test_a_size_of_one_turns_batching_off(make_app: MakeApp) -> None:
    app = await make_app(Batched, max_batch_size=1)
    await is_error(await post(app, 1), 500)  # its model hook says that it wants batches
    assert app.workflow.sizes == []


async def until_it_runs_without_the_thread(app: Any, number: int = 21) -> list[Any]:
    """Ask again and again, because a busy machine may hold up what is quick; returns responses."""
    responses = []
    async with asyncio.timeout(120):
        while "MainThread" not in app.workflow.threads[-1:]:
            responses.append(await post(app, number))
    return responses


async def test_quick_requests_that_come_alone_wait_for_no_thread(make_app: MakeApp) -> None:
    app = await make_app(Quick)
    for response in await until_it_runs_without_the_thread(app):
        assert await value(response) == 42
    app.workflow.threads.clear()
    for response in await until_it_runs_without_the_thread(app, -1):
        assert "not -1" in await is_error(response, 400)


async def test_large_request_is_never_read_on_the_event_loop(make_app: MakeApp) -> None:
    app = await make_app(Quick)
    await until_it_runs_without_the_thread(app)
    metrics = app.metrics.registry.get_sample_value
    queued = metrics("inference_queue_seconds_count")
    assert "whole number" in await is_error(await post(app, "text" * 4000), 400)
    assert metrics("inference_queue_seconds_count") == queued + 1


async def test_model_that_becomes_slow_leaves_the_event_loop(make_app: MakeApp) -> None:
    app = await make_app(Quick)
    await until_it_runs_without_the_thread(app)
    app.workflow.seconds = 0.05
    for _ in range(3):
        assert await value(await post(app, 21)) == 42
    assert app.workflow.threads[-2:] == ["inference", "inference"]


async def test_requests_that_come_together_form_batches_also_where_they_are_quick(
    make_app: MakeApp,
) -> None:
    app = await make_app(Quick)
    await until_it_runs_without_the_thread(app)
    replies = await asyncio.gather(*(post(app, number) for number in range(40)))
    assert [await value(reply) for reply in replies] == [number * 2 for number in range(40)]
    assert max(app.workflow.sizes) > 5


async def test_an_input_larger_than_those_that_were_quick_runs_in_the_thread_first(
    make_app: MakeApp,
) -> None:
    app = await make_app(Quick)
    await until_it_runs_without_the_thread(app)
    assert await value(await post(app, 900)) == 1800
    assert app.workflow.threads[-1] == "inference"
