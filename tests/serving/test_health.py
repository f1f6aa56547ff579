"""Whether a service can answer, and if not, why."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from ml import __version__
from tests.conftest import MakeApp
from tests.support.requests import eventually, is_error, post
from tests.support.workflows import Echo, FailingSetup, Shout, SlowSetup, Stubborn


async def ready(app: Any) -> tuple[int, dict[str, Any]]:
    response = await app.test_client().get("/health/ready")
    return response.status_code, json.loads(await response.get_data())


async def live(app: Any) -> int:
    status: int = (await app.test_client().get("/health/live")).status_code
    return status


async def test_while_the_workflow_loads_it_lives_but_is_not_ready(make_app: MakeApp) -> None:
    app = await make_app(SlowSetup, loaded=False, workflow_positional_args=[0.3])
    status, document = await ready(app)
    assert status == 503
    assert document["state"] == "starting"
    assert document["reason"] == "workflow_loading"
    assert document["checks"]["workflow"]["ok"] is False
    assert document["code"] == "503"
    assert await live(app) == 200
    await eventually(lambda: app.health.state == "ready")
    assert (await ready(app))[0] == 200
    assert (await post(app, 1)).status_code == 200


async def test_ready_says_so_without_a_code(make_app: MakeApp) -> None:
    status, document = await ready(await make_app(Echo))
    assert status == 200
    assert document["state"] == "ready"
    assert "code" not in document
    assert all(check["ok"] for check in document["checks"].values())


async def test_a_failed_load_is_told_with_its_reason_and_stays_alive(make_app: MakeApp) -> None:
    app = await make_app(FailingSetup, workflow_positional_args=["readable"])
    status, document = await ready(app)
    assert status == 503
    assert document["state"] == "failed"
    assert "there is no model file" in document["checks"]["workflow"]["message"]
    assert await live(app) == 200
    response = await post(app, 1)
    assert "there is no model file" in await is_error(response, 503)
    assert "Retry-After" not in response.headers


@pytest.mark.parametrize("way", ["else", "exit"])
async def test_a_load_that_broke_keeps_its_details_in_the_log(make_app: MakeApp, way: str) -> None:
    app = await make_app(FailingSetup, workflow_positional_args=[way])
    status, document = await ready(app)
    assert status == 503
    assert document["state"] == "failed"
    assert "secret" not in json.dumps(document)


async def test_draining_it_is_not_ready_but_still_answers(make_app: MakeApp) -> None:
    app = await make_app(Echo)
    app.begin_drain()
    status, document = await ready(app)
    assert status == 503
    assert document["state"] == "draining"
    assert document["reason"] == "shutting_down"
    assert document["checks"]["accepting"]["ok"] is False
    assert await live(app) == 200
    assert (await post(app, 1)).status_code == 200


async def test_a_load_that_ends_while_draining_does_not_make_it_ready(make_app: MakeApp) -> None:
    app = await make_app(SlowSetup, loaded=False, workflow_positional_args=[0.05])
    app.begin_drain()
    await eventually(lambda: app.workflow.is_setup)
    assert (await ready(app))[1]["state"] == "draining"


async def test_a_plain_hook_that_blocks_leaves_the_event_loop_free(make_app: MakeApp) -> None:
    app = await make_app(Stubborn)
    busy = asyncio.create_task(post(app, 1.5))
    await eventually(lambda: app.admission.in_flight == 1)
    for _ in range(5):
        assert await live(app) == 200
    assert not busy.done()
    assert (await busy).status_code == 200


async def test_the_service_says_what_it_is(make_app: MakeApp) -> None:
    response = await (await make_app(Shout)).test_client().get("/")
    assert json.loads(await response.get_data()) == {
        "name": "classic_ml_inference_service",
        "version": __version__,
        "workflow": "tests.support.workflows.Shout",
    }


async def test_service_resources_tell_the_node_what_it_can_do(make_app: MakeApp) -> None:
    client = (await make_app(Shout, api_keys="key")).test_client()
    document = json.loads(await (await client.get("/service-resources")).get_data())
    assert document["service_id"] == "classic_ml_inference_service"
    assert document["compute_capability"] == [{"id": "ml", "type": "custom", "task": []}]
    for model_id, supported in (("shout", True), ("other/né model", False)):
        response = await client.get("/service-resources", query_string={"model_id": model_id})
        assert response.status_code == 200
        assert json.loads(await response.get_data()) == {"supported": supported}


async def test_service_resources_answer_while_the_workflow_loads(make_app: MakeApp) -> None:
    app = await make_app(SlowSetup, loaded=False, workflow_positional_args=[0.1])
    assert (await app.test_client().get("/service-resources")).status_code == 200
