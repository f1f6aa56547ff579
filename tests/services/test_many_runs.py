"""What the trainer's addresses send of a store with many runs, one of them long."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from ml.jobs.job import JobState
from tests.services.trainer import Trainer, trainer
from tests.support.many_runs import LONGEST, fill_store

RUNS, STEPS = 200, 50_000

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Trainer]:
    root = tmp_path_factory.mktemp("many")
    (root / "working").mkdir()
    file = root / "working" / "jobs.sqlite"
    fill_store(file, runs=RUNS, events=60_000, longest=STEPS, newest=JobState.INTERRUPTED)
    with pytest.MonkeyPatch.context() as patch:
        async with trainer(root, root / "models", patch) as running:
            yield running


async def read(service: Trainer, path: str, **options: Any) -> bytes:
    reply = await service.app.test_client().get(path, **options)
    assert reply.status_code == 200, await reply.get_data()
    body: bytes = await reply.get_data()
    return body


async def test_a_page_of_runs_is_a_hundred_of_a_kilobyte(service: Trainer) -> None:
    page = await read(service, "/jobs")
    assert len(json.loads(page)["jobs"]) == 100
    assert len(page) < 150_000


async def test_of_a_long_run_a_stream_sends_as_much_as_is_asked_for(service: Trainer) -> None:
    text = await read(service, f"/jobs/{LONGEST}/events?points=2000")
    events = text.decode().split("\n\n")[:-1]
    progress = [event for event in events if "event: progress" in event]
    assert 500 < len(progress) <= 2000
    assert len(text) < 1_000_000
    ids = [int(event.split("\n")[0].removeprefix("id: ")) for event in events[1:]]
    assert ids == sorted(set(ids))
    assert ids[-1] == STEPS + 3
    assert any(f'"step":{STEPS // 2},' in event for event in progress)  # the only spike
    assert '"state":"interrupted"' in events[-1]


async def test_who_comes_back_goes_on_behind_what_he_has_whatever_his_address_says(
    service: Trainer,
) -> None:
    path = f"/jobs/{LONGEST}/events?after=7&points=2000"
    text = await read(service, path, headers={"Last-Event-ID": str(STEPS)})
    ids = [line for line in text.decode().split("\n") if line.startswith("id: ")]
    assert ids == [f"id: {STEPS + 1}", f"id: {STEPS + 2}", f"id: {STEPS + 3}"]


@pytest.mark.parametrize("points", ["499", "10001", "", "x", "²", "9" * 30])
async def test_no_fewer_points_than_a_chart_needs_and_no_more_than_it_can_show(
    service: Trainer, points: str
) -> None:
    reply = await service.app.test_client().get(
        f"/jobs/{LONGEST}/events", query_string={"points": points}
    )
    assert reply.status_code == 400
    assert "from 500 to 10000" in (await reply.get_json())["description"]
