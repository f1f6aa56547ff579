"""Jobs are asked about, cancelled and resumed in one way, at whichever address they are."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from ml.finetuning.model_exports import EXPORT
from ml.jobs.job import JobState
from ml.workflows.training.unsloth_trainer_workflow import FINETUNING
from tests.services.trainer import trainer
from tests.support import step_job
from tests.support.circuits import iris_artifact
from tests.support.jobs import job_in
from tests.support.processes import ROOT
from tests.support.requests import JSON, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: The paths of jobs, with the name of the list, and the status of a job that was resumed.
FAMILIES = {
    "/train": ("jobs", 202),
    "/jobs": ("jobs", 202),
    "/proofs": ("proofs", 202),
    "/v1/fine_tuning/jobs": ("data", 200),
}
#: What a path takes that makes a job.
MAKES = {"/jobs": "/finetune"}
#: All that OpenAI's clients ask of a job by its id.
OF_OPENAIS = [
    ("GET", "/{}"),
    ("GET", "/{}/events"),
    ("GET", "/{}/checkpoints"),
    ("POST", "/{}/cancel"),
    ("POST", "/{}/pause"),
    ("POST", "/{}/resume"),
    ("GET", "?after={}"),
]
NO_JSON = [b"", b"{", b'{"a": NaN}', b"\xff", b"[" * 300]
UNKNOWN = ["none", "..", "a" * 500, "\0", "\N{HORSE}"]


@dataclass
class Family:
    """An application whose one slot is taken, and the path of its jobs."""

    app: Any
    store: Any
    path: str
    made: int = 0

    @property
    def is_openais(self) -> bool:
        return self.path.startswith("/v1/")

    async def ask(self, method: str, below: str = "", **options: Any) -> tuple[int, Any]:
        reply = await self.app.test_client().open(self.path + below, method=method, **options)
        body = await reply.get_data()
        is_json = reply.content_type == "application/json"
        return reply.status_code, json.loads(body) if is_json else body.decode()

    async def refusal(self, status: int, method: str, below: str = "", **options: Any) -> str:
        """Return why something is refused, with this status."""
        told, document = await self.ask(method, below, **options)
        assert told == status, (method, below, document)
        return str(document["error"]["message"] if self.is_openais else document["description"])

    async def new(self) -> str:
        """Queue a job that stays in the queue, and return its id."""
        self.made += 1
        kind = FINETUNING if self.is_openais else step_job.KIND
        job = await self.store.create(kind, {"steps": 1}, f"job-{self.made}")
        return str(job.id)

    async def listed(self, query: str = "") -> list[str]:
        status, document = await self.ask("GET", query)
        assert status == 200, document
        return [self.id_of(view) for view in document[FAMILIES[self.path][0]]]

    def id_of(self, view: Any) -> str:
        return str(view["id" if self.is_openais else "job_id"])


@contextlib.asynccontextmanager
async def application(path: str, folder: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """Run the service of a path and return it with its store."""
    if path != "/proofs":
        async with trainer(folder, folder / "models", patch) as running:
            yield running.app, running.jobs
        return
    from ezkl_proof_service import create_app

    patch.setenv("EZKL_WORKFLOW_POSITIONAL_ARGS", json.dumps([str(iris_artifact())]))
    patch.setenv("WORKING_PATH", str(folder))
    patch.setenv("PYTHONPATH", str(ROOT))
    app = create_app()
    async with app.test_app():
        await eventually(lambda: app.health.state != "starting")
        counting = {"steps": 100_000, "pause_seconds": 0.1}
        await app.workflow.jobs.store.create(step_job.KIND, counting, "counting")
        yield app, app.workflow.jobs.store


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=FAMILIES)
async def family(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Family]:
    folder = tmp_path_factory.mktemp("jobs")
    with pytest.MonkeyPatch.context() as patch:
        async with application(request.param, folder, patch) as (app, store):
            await job_in(store, "counting", JobState.RUNNING)
            yield Family(app, store, request.param)


@pytest.mark.parametrize("limit", ["0", "101", "-1", "²", "1e1", "", "9" * 5000])
async def test_a_page_has_1_to_100_entries(family: Family, limit: str) -> None:
    assert "from 1 to 100" in await family.refusal(400, "GET", f"?limit={quote(limit)}")


async def test_pages_follow_one_another_newest_first(family: Family) -> None:
    made = [await family.new() for _ in range(3)]
    whole = await family.listed()
    assert whole[:3] == made[::-1]
    read, after = [], ""
    while page := await family.listed(f"?limit=2{after}"):
        assert len(page) <= 2
        read += page
        after = f"&after={page[-1]}"
    assert read == whole
    assert "none" in await family.refusal(404, "GET", "?after=none")


async def test_a_list_of_our_own_is_narrowed_by_state(family: Family) -> None:
    if not family.is_openais:
        await family.new()
        assert await family.listed("?status=running") == ["counting"]
        assert "counting" not in await family.listed("?status=queued&status=cancelled")
        assert "'queued', 'running'" in await family.refusal(400, "GET", "?status=paused")


@pytest.mark.parametrize("job_id", UNKNOWN)
async def test_an_unknown_job_is_not_found(family: Family, job_id: str) -> None:
    one = f"/{quote(job_id, safe='')}"
    below = [("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("POST", "/resume")]
    below += [("POST", "/pause")] if family.is_openais else [("GET", "/events/history")]
    for method, end in below:
        assert (await family.ask(method, one + end))[0] == 404, (method, end)


async def test_a_job_that_waits_is_cancelled_at_once_and_not_twice(family: Family) -> None:
    one = f"/{await family.new()}"
    status, view = await family.ask("POST", f"{one}/cancel")
    assert (status, view["status"]) == (200, "cancelled")
    assert view.get("message") == (None if family.is_openais else "Job cancelled")
    assert "is cancelled" in await family.refusal(409, "POST", f"{one}/cancel")
    view.pop("message", None)
    shown = (await family.ask("GET", one))[1]
    assert {name: shown[name] for name in view} == view


async def test_a_job_is_resumed_from_the_states_that_allow_it_alone(family: Family) -> None:
    due = FAMILIES[family.path][1]
    waits, failed = await family.new(), await family.new()
    await family.store.transition(failed, JobState.FAILED, reason="it broke")
    assert "is queued" in await family.refusal(409, "POST", f"/{waits}/resume")
    if not family.is_openais:
        assert "is running" in await family.refusal(409, "POST", "/counting/resume")
    if family.path == "/proofs":  # the input of one that ended is gone
        assert "is failed" in await family.refusal(409, "POST", f"/{failed}/resume")
        return
    status, view = await family.ask("POST", f"/{failed}/resume")
    assert (status, view["status"], family.id_of(view)) == (due, "queued", failed)
    assert (await family.ask("GET", f"/{failed}"))[1]["status"] == "queued"


async def test_what_is_done_to_a_job_takes_no_body(family: Family) -> None:
    one = f"/{await family.new()}"
    for action in ("cancel", "resume"):
        told = await family.refusal(400, "POST", f"{one}/{action}", json={"max_steps": 3})
        assert "the body is not read here" in told
        told = await family.refusal(400, "POST", f"{one}/{action}", data=b"{", headers=JSON)
        assert "no JSON" in told
    assert (await family.ask("GET", one))[1]["status"] == "queued"


async def test_events_are_told_behind_those_that_a_client_has(family: Family) -> None:
    job_id = await family.new()
    assert (await family.ask("POST", f"/{job_id}/cancel"))[0] == 200
    events = f"/{job_id}/events"
    if family.is_openais:
        status, page = await family.ask("GET", f"{events}?limit=1")
        assert (status, page["has_more"], page["data"][0]["id"]) == (200, True, "ftevent-2")
        status, page = await family.ask("GET", f"{events}?after=ftevent-2")
        assert (page["has_more"], [one["id"] for one in page["data"]]) == (False, ["ftevent-1"])
        assert "give the id" in await family.refusal(400, "GET", f"{events}?after=2")
        return
    for options in ({"headers": {"Last-Event-ID": "1"}}, {"query_string": {"after": "1"}}):
        status, text = await family.ask("GET", events, **options)
        first, *rest, end = text.split("\n\n")
        assert (status, end) == (200, "")
        assert first.startswith("event: init\ndata: {")
        assert [event.split("\n")[:2] for event in rest] == [["id: 2", "event: status"]]
    assert await family.ask("GET", f"{events}?after=2") == (204, "")
    status, page = await family.ask("GET", f"{events}/history?after=1")
    assert (page["status"], [one["id"] for one in page["events"]]) == ("cancelled", [2])
    for wrong in ("x", "²", "-1", "9" * 30):
        for end in (events, f"{events}/history"):
            assert "after: " in await family.refusal(400, "GET", f"{end}?after={quote(wrong)}")


@pytest.mark.parametrize("body", NO_JSON)
async def test_a_body_that_is_no_json_is_a_400_wherever_jobs_are_made(
    family: Family, body: bytes
) -> None:
    path = MAKES.get(family.path, family.path)
    reply = await family.app.test_client().post(path, data=body, headers=JSON)
    assert reply.status_code == 400, await reply.get_data()
    assert b"JSON" in await reply.get_data()


@pytest.mark.parametrize("kind", [EXPORT, step_job.KIND])
async def test_openais_clients_find_no_job_that_is_no_fine_tuning(
    family: Family, kind: str
) -> None:
    job = await family.store.create(kind, {"run_id": "ft-1", "steps": 1})
    if not family.is_openais:
        assert (await family.ask("GET", f"/{job.id}"))[0] == 200
        return
    for method, address in OF_OPENAIS:
        unknown = await family.refusal(404, method, address.format("x"))
        told = await family.refusal(404, method, address.format(job.id))
        assert told == unknown.replace("'x'", f"'{job.id}'"), (method, address)
    assert (await family.store.get(job.id)).state is JobState.QUEUED


async def test_a_running_job_is_asked_to_end_however_often_it_is_cancelled(family: Family) -> None:
    """The last test, after which the slot is free."""
    if family.is_openais:  # it is no fine-tuning that has the slot
        return
    status, view = await family.ask("POST", "/counting/cancel")
    assert (status, view["status"]) == (200, "running")
    message = "Job stops" if family.path == "/proofs" else "Job saves and stops"
    assert (view["stop"], view["message"]) == ("cancel", message)
    status, again = await family.ask("POST", "/counting/cancel")
    assert status == 409 or again["status"] == "running", again  # it may have ended meanwhile
    await job_in(family.store, "counting", JobState.CANCELLED)
