"""`/v1/fine_tuning/jobs`: the same jobs as OpenAI's clients know them.

Source: OpenAI's API reference, "Fine-tuning".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from quart import request
from quart_schema import document_request

from ml.errors import InvalidInput
from ml.jobs.job import Job, StopRequest, new_job_id
from ml.serving.job_views import page_limit
from ml.workflows.training.unsloth_trainer_workflow import UnslothTrainerWorkflow
from unsloth_trainer_service.body import refuse_body
from unsloth_trainer_service.openai_job_request import JobRequest, in_openais_names
from unsloth_trainer_service.openai_job_views import checkpoint_views, event_view, tuning_view

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

#: Jobs that are looked at in one query for those with some metadata.
_LOOKED_AT = 100
_EVENT_ID = re.compile(r"ftevent-(\d{1,18})")
_METADATA = re.compile(r"metadata\[(.*)\]")


def add_fine_tuning_jobs(app: ServiceApp, workflow: UnslothTrainerWorkflow) -> None:
    """Register the addresses."""

    @app.post("/v1/fine_tuning/jobs")
    @document_request(JobRequest)
    async def create_tuning() -> dict[str, Any]:
        """Queue a fine-tuning."""
        asked = JobRequest.read(await request.get_data())
        job_id = new_job_id("ftjob")
        with in_openais_names():
            job = await workflow.submit(asked.finetuning_request(job_id), job_id=job_id)
        return tuning_view(job)

    @app.get("/v1/fine_tuning/jobs")
    async def list_tunings() -> dict[str, Any]:
        """Return the jobs, newest first, a page at a time; `?metadata[key]=value` narrows them."""
        limit = page_limit(20)
        jobs = await _jobs(workflow, limit + 1, request.args.get("after"))
        return _page([tuning_view(job) for job in jobs], limit)

    @app.get("/v1/fine_tuning/jobs/<job_id>")
    async def tuning(job_id: str) -> dict[str, Any]:
        """Return a job."""
        return tuning_view(await workflow.jobs.get(job_id))

    @app.post("/v1/fine_tuning/jobs/<job_id>/cancel")
    async def cancel_tuning(job_id: str) -> dict[str, Any]:
        """Cancel a job: a running one finishes its step and saves first."""
        await refuse_body()
        return tuning_view(await workflow.jobs.request_stop(job_id, StopRequest.CANCEL))

    @app.post("/v1/fine_tuning/jobs/<job_id>/pause")
    async def pause_tuning(job_id: str) -> dict[str, Any]:
        """Let a running job save and stop, to be resumed."""
        await refuse_body()
        return tuning_view(await workflow.jobs.request_stop(job_id, StopRequest.INTERRUPT))

    @app.post("/v1/fine_tuning/jobs/<job_id>/resume")
    async def resume_tuning(job_id: str) -> dict[str, Any]:
        """Queue a paused job again; it goes on from its last checkpoint."""
        await refuse_body()
        return tuning_view(await workflow.jobs.requeue(job_id))

    @app.get("/v1/fine_tuning/jobs/<job_id>/events")
    async def tuning_events(job_id: str) -> dict[str, Any]:
        """Return a job's events, newest first, a page at a time."""
        limit = page_limit(20)
        _, last = await workflow.jobs.last_event(job_id)
        last = min(last, _before(request.args.get("after"), last))
        first = max(0, last - limit - 1)  # ids begin at 1 and have no gaps
        found = await workflow.jobs.events(job_id, first, last - first) if last > first else []
        return _page([event_view(event) for event in reversed(found)], limit)

    @app.get("/v1/fine_tuning/jobs/<job_id>/checkpoints")
    async def tuning_checkpoints(job_id: str) -> dict[str, Any]:
        """Return the tuned model of a job that succeeded, and the checkpoints that are kept."""
        job = await workflow.jobs.get(job_id)
        views = checkpoint_views(job, await workflow.in_thread(workflow.checkpoints, job_id))
        ids = [view["id"] for view in views]
        if (after := request.args.get("after")) is not None:
            views = views[ids.index(after) + 1 :] if after in ids else []
        return _page(views, page_limit(10))


async def _jobs(workflow: UnslothTrainerWorkflow, number: int, after: str | None) -> list[Job]:
    """Return the jobs behind `after` that have the metadata in the request's query."""
    wanted = _wanted_metadata()
    found: list[Job] = []
    while len(found) < number:
        page = await workflow.jobs.list(None, _LOOKED_AT, after)
        found += [job for job in page if _has(job.request.get("metadata"), wanted)]
        if len(page) < _LOOKED_AT:
            break
        after = page[-1].id
    return found[:number]


def _wanted_metadata() -> dict[str, str] | None:
    """Return the pairs that jobs shall have; None for those without any metadata."""
    if request.args.get("metadata") == "null":
        return None
    return {
        named[1]: value
        for name, value in request.args.items()
        if (named := _METADATA.fullmatch(name))
    }


def _has(metadata: dict[str, str] | None, wanted: dict[str, str] | None) -> bool:
    if wanted is None:
        return not metadata
    return wanted.items() <= (metadata or {}).items()


def _before(after: str | None, last: int) -> int:
    """Return the id of the newest event behind the one that the client has."""
    if after is None:
        return last
    named = _EVENT_ID.fullmatch(after)
    if named is None:
        raise InvalidInput("after: give the id of an event")
    return max(0, int(named[1]) - 1)


def _page(data: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    ends = {"first_id": data[0]["id"], "last_id": data[:limit][-1]["id"]} if data else {}
    return {"object": "list", "data": data[:limit], **ends, "has_more": len(data) > limit}
