"""`/v1/fine_tuning/jobs`: the same jobs as OpenAI's clients know them.

Source: OpenAI's API reference, "Fine-tuning".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, Field
from quart import request
from quart_schema import document_querystring, document_request, document_response

from ml.errors import InvalidInput
from ml.jobs.job import Job, StopRequest, new_job_id
from ml.serving.jobs import JobForm, add_job_routes, page_of_jobs
from ml.serving.json_body import refuse_body
from ml.serving.openai.page import list_page
from ml.serving.paging import MOST_ENTRIES, PageQuery
from ml.workflows.training.unsloth_trainer_workflow import FINETUNING, UnslothTrainerWorkflow
from unsloth_trainer_service.answers import (
    TuningCheckpointList,
    TuningEventList,
    TuningJob,
    TuningJobList,
)
from unsloth_trainer_service.openai_job_request import JobRequest, in_openais_names
from unsloth_trainer_service.openai_job_views import checkpoint_views, event_view, tuning_view

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

PATH = "/v1/fine_tuning/jobs"
_EVENT_ID = re.compile(r"ftevent-(\d{1,18})")
_METADATA = re.compile(r"metadata\[(.*)\]")


class TuningQuery(PageQuery):
    """A page of jobs, or of a job's events."""

    limit: int = Field(default=20, ge=1, le=MOST_ENTRIES, description="How many, at most")


class TuningJobsQuery(TuningQuery):
    """A page of jobs that have such metadata."""

    metadata: dict[str, str] | Literal["null"] = Field(
        default={},
        description="Only jobs with these pairs: `metadata[key]=value`; `metadata=null`: only jobs "
        "without any",
    )

    @classmethod
    def given(cls) -> dict[str, Any]:
        """Return the values that the request has, with the pairs of `metadata`."""
        named = {_METADATA.fullmatch(name): value for name, value in request.args.items()}
        pairs = {found[1]: value for found, value in named.items() if found}
        return {**({"metadata": pairs} if pairs else {}), **super().given()}


class CheckpointsQuery(PageQuery):
    """A page of checkpoints."""

    limit: int = Field(default=10, ge=1, le=MOST_ENTRIES, description="How many, at most")


class TuningForm(JobForm):
    """Jobs as OpenAI's clients know them."""

    kind: ClassVar[str | None] = FINETUNING
    described: ClassVar[type[BaseModel]] = TuningJob
    listed: ClassVar[type[BaseModel]] = TuningJobList
    query: ClassVar[type[PageQuery]] = TuningJobsQuery
    resumed_status: ClassVar[int] = 200
    streams_events: ClassVar[bool] = False

    def record(self, job: Job, position: int | None) -> dict[str, Any]:
        """Return a job; OpenAI's have no place in a queue."""
        return tuning_view(job)

    async def found(self) -> tuple[Sequence[Job], bool]:
        """Return the jobs with the metadata in the request's query."""
        query = TuningJobsQuery.asked()
        wanted = query.metadata

        def is_wanted(job: Job) -> bool:
            metadata = job.request.get("metadata") or {}
            return not metadata if wanted == "null" else wanted.items() <= metadata.items()

        return await page_of_jobs(
            self.jobs.store, query, is_wanted=is_wanted if wanted else None, kind=self.kind
        )

    def page(self, views: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
        """Return a page of jobs."""
        return list_page(views, has_more)

    def changed(self, view: dict[str, Any], message: str) -> dict[str, Any]:
        """Return the job alone."""
        return view


def add_fine_tuning_jobs(app: ServiceApp, workflow: UnslothTrainerWorkflow) -> None:
    """Register the addresses."""

    @app.post(PATH)
    @document_request(JobRequest)
    @document_response(TuningJob)
    async def create_tuning() -> dict[str, Any]:
        """Queue a fine-tuning."""
        asked = JobRequest.read(await request.get_data())
        job_id = new_job_id("ftjob")
        with in_openais_names():
            job = await workflow.submit(asked.finetuning_request(job_id), job_id=job_id)
        return tuning_view(job)

    form = TuningForm(workflow.job_engine)
    add_job_routes(app, PATH, form)

    @app.post(f"{PATH}/<job_id>/pause")
    @document_response(TuningJob)
    async def pause_tuning(job_id: str) -> dict[str, Any]:
        """Let a running job save and stop, to be resumed."""
        await refuse_body()
        await form.get(job_id)
        return tuning_view(await workflow.jobs.request_stop(job_id, StopRequest.INTERRUPT))

    @app.get(f"{PATH}/<job_id>/events")
    @document_querystring(TuningQuery)
    @document_response(TuningEventList)
    async def tuning_events(job_id: str) -> dict[str, Any]:
        """Return a job's events, newest first, a page at a time."""
        query = TuningQuery.asked()
        await form.get(job_id)
        _, last = await workflow.jobs.last_event(job_id)
        last = min(last, _before(query.after, last))
        first = max(0, last - query.limit)  # ids begin at 1 and have no gaps
        found = await workflow.jobs.events(job_id, first, last - first) if last > first else []
        return list_page([event_view(event) for event in reversed(found)], first > 0)

    @app.get(f"{PATH}/<job_id>/checkpoints")
    @document_querystring(CheckpointsQuery)
    @document_response(TuningCheckpointList)
    async def tuning_checkpoints(job_id: str) -> dict[str, Any]:
        """Return the tuned model of a job that succeeded, and the checkpoints that are kept."""
        query = CheckpointsQuery.asked()
        job = await form.get(job_id)
        views = checkpoint_views(job, await workflow.in_thread(workflow.checkpoints, job_id))
        ids = [view["id"] for view in views]
        if query.after is not None:
            views = views[ids.index(query.after) + 1 :] if query.after in ids else []
        return list_page(views[: query.limit], len(views) > query.limit)


def _before(after: str | None, last: int) -> int:
    """Return the id of the newest event behind the one that the client has."""
    if after is None:
        return last
    named = _EVENT_ID.fullmatch(after)
    if named is None:
        raise InvalidInput("after: give the id of an event")
    return max(0, int(named[1]) - 1)
