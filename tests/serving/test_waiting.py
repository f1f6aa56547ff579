"""Requests that come before the workflow is loaded wait for it, as long as they may."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.conftest import MakeApp
from tests.support.requests import STREAM, body, eventually, is_error, open_post, post
from tests.support.unloaded import REASON, Gated


@pytest.fixture
async def app(make_app: MakeApp) -> Any:
    return await make_app(Gated, loaded=False, max_in_flight=2)


async def waiting(app: Any, data: Any = 1, **fields: Any) -> asyncio.Task[Any]:
    """Send a request and return once it has its place."""
    before = app.admission.in_flight
    request = asyncio.create_task(post(app, data, **fields))
    await eventually(lambda: app.admission.in_flight == before + 1)
    return request


async def test_a_request_that_comes_too_early_is_answered_once_the_workflow_is_loaded(
    app: Any,
) -> None:
    requests = [await waiting(app), await waiting(app, destination=STREAM)]
    assert (await app.test_client().get("/health/ready")).status_code == 503
    app.workflow.gate.set()
    for request in requests:
        assert (await request).status_code == 200


async def test_the_deadline_holds_for_waiting_and_work_together(make_app: MakeApp) -> None:
    app = await make_app(Gated, loaded=False, request_timeout_seconds=60)
    request = await waiting(app)
    await asyncio.sleep(0.2)
    app.workflow.gate.set()
    assert json.loads(await (await request).get_data()) < 59.8


async def test_past_the_deadline_a_waiting_request_is_told_to_come_again(
    make_app: MakeApp,
) -> None:
    app = await make_app(Gated, loaded=False, request_timeout_seconds=0.1)
    response = await post(app, 1)
    assert await is_error(response, 503) == "The workflow is loading."
    assert response.headers["Retry-After"] == "1"
    assert app.metrics.registry.get_sample_value("requests_timed_out_total") == 1
    assert app.admission.in_flight == 0


async def test_a_failed_load_is_told_at_once_to_those_who_wait(app: Any) -> None:
    requests = [await waiting(app), await waiting(app)]
    app.workflow.reason = REASON
    app.workflow.gate.set()
    for request in requests:
        response = await asyncio.wait_for(request, 20)
        assert REASON in await is_error(response, 503)
        assert "Retry-After" not in response.headers


async def test_requests_that_wait_take_places(app: Any) -> None:
    requests = [await waiting(app), await waiting(app)]
    assert "All 2 places are taken" in await is_error(await post(app, 1), 503)
    app.workflow.gate.set()
    for request in requests:
        assert (await request).status_code == 200


async def test_a_client_that_leaves_while_it_waits_gives_its_place_back(app: Any) -> None:
    async with open_post(app) as connection:
        await connection.send(body(1))
        await connection.send_complete()
        await eventually(lambda: app.admission.in_flight == 1)
        await connection.disconnect()
    await eventually(lambda: app.admission.in_flight == 0)
    assert app.metrics.registry.get_sample_value("requests_cancelled_total") == 1


async def test_a_drain_ends_the_wait_at_once(app: Any) -> None:
    request = await waiting(app)
    app.begin_drain()
    response = await asyncio.wait_for(request, 20)
    assert await is_error(response, 503) == "The service is shutting down."
    await is_error(await post(app, 1), 503)
