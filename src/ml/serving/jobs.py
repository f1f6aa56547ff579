"""The addresses of jobs, built once for every service that has some.

    add_job_routes(app, "/proofs", ProofForm(jobs))

Below a path there are the list of jobs, each with its state and events, and what is done to one.
How they look to the clients of that path is a `JobForm`'s; `POST path`, which makes one, is the
service's own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import BaseModel, Field
from quart import Response
from quart_schema import document_querystring, document_response

from ml.errors import NotFound
from ml.jobs.job import Job, JobState
from ml.serving.job_events import EventsQuery, HistoryQuery, event_history, stream_events
from ml.serving.job_views import EventHistory, JobEvents, JobList, JobRecord, job_view
from ml.serving.json_body import refuse_body
from ml.serving.paging import MOST_ENTRIES, PageQuery

if TYPE_CHECKING:
    from ml.jobs.store import JobStore
    from ml.jobs.tail import Tails
    from ml.serving.app import ServiceApp

__all__ = ["JobForm", "Jobs", "add_job_routes", "cancelled", "page_of_jobs"]


class Jobs(Protocol):
    """The jobs of a service. Both properties raise `NotReady` before they are open."""

    @property
    def store(self) -> JobStore:
        """The records."""

    @property
    def tails(self) -> Tails:
        """The events as they come."""

    async def cancel(self, job_id: str) -> Job:
        """End a job, or ask a running one to; raises `NotFound` or `IllegalTransition`."""

    async def resume(self, job_id: str) -> Job:
        """Queue a job again; raises `NotFound` or `IllegalTransition`."""


class JobsQuery(PageQuery):
    """A page of jobs."""

    status: list[JobState] = Field(
        default=[], description="Only jobs in this state; it may be given several times"
    )


class JobForm:
    """How jobs look at addresses of our own. Those of others' protocols derive their form."""

    #: What does the jobs of these addresses, where there are none for others: see `Job.kind`.
    kind: ClassVar[str | None] = None
    #: The list's name in the reply to `GET path`.
    list_name: ClassVar[str] = "jobs"
    #: What a job, and a list of them, is described as.
    described: ClassVar[type[BaseModel]] = JobRecord
    listed: ClassVar[type[BaseModel]] = JobList
    #: What the query of a list may ask for.
    query: ClassVar[type[PageQuery]] = JobsQuery
    #: What a client is told of a running job that it cancels.
    stopping: ClassVar[str] = "Job saves and stops"
    resumed_status: ClassVar[int] = 202
    #: Whether events are server-sent ones at `/events`; else the protocol has its own way.
    streams_events: ClassVar[bool] = True

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs

    async def get(self, job_id: str) -> Job:
        """Return a job that has these addresses; raises `NotFound`."""
        job = await self.jobs.store.get(job_id)
        if self.kind not in (None, job.kind):
            raise NotFound(f"there is no job {job_id!r}")
        return job

    async def view(self, job: Job) -> dict[str, Any]:
        """Return a job, with its place in the queue if it waits."""
        waits = job.state is JobState.QUEUED
        return self.record(job, await self.jobs.store.position(job.id) if waits else None)

    async def views(self, found: Sequence[Job]) -> list[dict[str, Any]]:
        """Return the jobs of a list."""
        waiting = [job.id for job in found if job.state is JobState.QUEUED]
        places = await self.jobs.store.positions(waiting) if waiting else {}
        return [self.record(job, places.get(job.id)) for job in found]

    def record(self, job: Job, position: int | None) -> dict[str, Any]:
        """Return a job's record and place."""
        return job_view(job, position)

    async def details(self, job: Job) -> dict[str, Any]:
        """Return what `GET path/ID` tells of a job."""
        return await self.view(job)

    async def found(self) -> tuple[Sequence[Job], bool]:
        """Return the jobs that the request's query asks for, and whether there are more."""
        query = JobsQuery.asked()
        states = query.status or None
        return await page_of_jobs(self.jobs.store, query, states=states, kind=self.kind)

    def page(self, views: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
        """Return a list of jobs."""
        return {self.list_name: views}

    def changed(self, view: dict[str, Any], message: str) -> dict[str, Any]:
        """Return what a client is told of a job that it changed."""
        return {**view, "message": message}


async def page_of_jobs(
    store: JobStore,
    query: PageQuery,
    *,
    states: Collection[JobState] | None = None,
    is_wanted: Callable[[Job], bool] | None = None,
    kind: str | None = None,
) -> tuple[Sequence[Job], bool]:
    """Return a page of jobs, newest first, and whether there are more; all or of a kind.

    `is_wanted` is asked here, so that the store is read a page at a time until there are enough.
    """
    limit, after = query.limit, query.after
    number = limit + 1 if is_wanted is None else MOST_ENTRIES
    found: list[Job] = []
    while len(found) <= limit:
        page = await store.list(states, number, after, kind=kind)
        found += page if is_wanted is None else filter(is_wanted, page)
        if len(page) < number:
            break
        after = page[-1].id
    return found[:limit], len(found) > limit


async def cancelled(form: JobForm, job_id: str) -> dict[str, Any]:
    """Cancel a job, and return what the client is told."""
    await refuse_body()
    await form.get(job_id)
    job = await form.jobs.cancel(job_id)
    message = form.stopping if job.state is JobState.RUNNING else "Job cancelled"
    return form.changed(await form.view(job), message)


def add_job_routes(app: ServiceApp, path: str, form: JobForm) -> None:
    """Register the addresses of jobs below a path, all but the one that makes a job."""
    jobs, one = form.jobs, f"{path}/<job_id>"

    @app.get(path, endpoint=f"list {path}")
    @document_querystring(form.query)
    @document_response(form.listed)
    async def list_jobs() -> dict[str, Any]:
        """Return the jobs, newest first, a page at a time."""
        found, has_more = await form.found()
        return form.page(await form.views(found), has_more)

    @app.get(one, endpoint=f"state {path}")
    @document_response(form.described)
    async def state(job_id: str) -> dict[str, Any]:
        """Return a job: its state, place in the queue, progress, and result once it is there."""
        return await form.details(await form.get(job_id))

    @app.post(f"{one}/cancel", endpoint=f"cancel {path}")
    @document_response(form.described)
    async def cancel(job_id: str) -> dict[str, Any]:
        """Cancel a job; a running one is asked to save what it has and to end."""
        return await cancelled(form, job_id)

    @app.post(f"{one}/resume", endpoint=f"resume {path}")
    @document_response(form.described, form.resumed_status)
    async def resume(job_id: str) -> tuple[dict[str, Any], int]:
        """Queue a job again that did not succeed; it takes no body."""
        await refuse_body()
        await form.get(job_id)
        view = await form.view(await jobs.resume(job_id))
        return form.changed(view, "Job is queued again"), form.resumed_status

    if form.streams_events:
        _add_events(app, one, form)


def _add_events(app: ServiceApp, one: str, form: JobForm) -> None:
    jobs = form.jobs

    @app.get(f"{one}/events", endpoint=f"events {one}")
    @document_querystring(EventsQuery)
    @document_response(JobEvents)
    async def events(job_id: str) -> Response:
        """Stream the events that were and that come; ends when the job has ended.

        With `Last-Event-ID` or `after`, those behind that event alone.
        """
        await form.get(job_id)
        return await stream_events(jobs.store, jobs.tails, job_id, form.view)

    @app.get(f"{one}/events/history", endpoint=f"history {one}")
    @document_querystring(HistoryQuery)
    @document_response(EventHistory)
    async def history(job_id: str) -> dict[str, Any]:
        """Return the events that were, a thousand at most."""
        await form.get(job_id)
        return await event_history(jobs.store, job_id)
