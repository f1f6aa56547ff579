"""`/proofs`: proofs that are jobs, which have no deadline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from quart import Response, request
from quart_schema import document_request

from ml.errors import DeadlineExceeded, InvalidInput, ServiceError
from ml.infernet.json_text import to_json
from ml.jobs.job import Job
from ml.proving.proof_jobs import ProofJobs, can_resume
from ml.serving.job_views import event_history, job_view, page_limit, stream_events, view_of
from ml.serving.reply import Reply
from ml.serving.service_output import SERVICE_OUTPUT_PATH, ServiceOutput
from ml.workflows.accepted import Accepted
from ml.workflows.proof.ezkl_proof_workflow import EZKLProofWorkflow
from ml.workflows.proof.proof_input import ProofInput

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp


class ProofOutput(ServiceOutput):
    """Answers with a job where a proof is expected not to fit the request's deadline."""

    gives_jobs = True

    def __init__(self, workflow: EZKLProofWorkflow, jobs: ProofJobs) -> None:
        super().__init__(workflow)
        self._jobs = jobs

    async def accepted(self, accepted: Accepted) -> Reply:
        """Return what `POST /proofs` does, and once the job has ended its record alone."""
        job = accepted.job
        view = to_json(await view_of(self._jobs.store, job, proof_view))
        if job.state.is_final:
            return Reply(200, view)
        return Reply(202, view, headers=[(b"location", _address(job).encode())])

    def refusal(self, error: ServiceError) -> Reply:
        """Return the one error form; what takes too long is told what does not."""
        if isinstance(error, DeadlineExceeded):
            error = DeadlineExceeded(f"{error.description} POST /proofs makes a job of it.")
        return super().refusal(error)


def add_proofs(app: ServiceApp, workflow: EZKLProofWorkflow) -> None:
    """Register the addresses, unless the workflow was told to make no jobs."""
    if workflow.jobs is None:
        return
    jobs = workflow.jobs
    app.endpoints[SERVICE_OUTPUT_PATH] = ProofOutput(workflow, jobs)

    @app.post("/proofs")
    @document_request(ProofInput)
    async def prove() -> tuple[dict[str, Any], int, dict[str, str]]:
        """Queue a proof of an artifact's answer to a tensor, the `data` of /service_output."""
        job = await workflow.submit(await workflow.in_thread(_tensor, await request.get_data()))
        return await _view(job), 202, {"Location": _address(job)}

    @app.get("/proofs")
    async def proofs() -> dict[str, Any]:
        """Return the jobs, newest first, without results; `?limit=` of them behind `?after=`."""
        found = await jobs.store.list(None, page_limit(), request.args.get("after"))
        views = [await _view(job) for job in found]
        return {"proofs": [{**view, "result": None} for view in views]}

    @app.get("/proofs/<job_id>")
    async def proof(job_id: str) -> dict[str, Any]:
        """Return a job: its state, place in the queue, stages, and result once it is there."""
        return await _view(await jobs.store.get(job_id))

    @app.get("/proofs/<job_id>/events")
    async def proof_events(job_id: str) -> Response:
        """Stream the events that were and that come; ends when the job has ended."""
        return await stream_events(jobs.store, jobs.tails, job_id, proof_view)

    @app.get("/proofs/<job_id>/events/history")
    async def proof_history(job_id: str) -> dict[str, Any]:
        """Return the events behind `after`, a thousand at most."""
        return await event_history(jobs.store, job_id)

    @app.post("/proofs/<job_id>/cancel")
    async def cancel(job_id: str) -> dict[str, Any]:
        """Cancel a job: one that runs ends within seconds."""
        return await _view(await jobs.cancel(job_id))

    @app.post("/proofs/<job_id>/resume")
    async def resume(job_id: str) -> tuple[dict[str, Any], int]:
        """Queue an interrupted job again; it begins anew."""
        return await _view(await jobs.resume(job_id)), 202

    async def _view(job: Job) -> dict[str, Any]:
        return await view_of(jobs.store, job, proof_view)

    def _tensor(body: str | bytes) -> ProofInput:
        try:
            data = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise InvalidInput(f"the body is no JSON: {error}") from None
        tensor = workflow.decode_offchain(data)
        if not isinstance(tensor, ProofInput):
            raise InvalidInput("give a tensor; GET /proofs/JOB tells of a job")
        return tensor


def proof_view(job: Job, *, position: int | None = None) -> dict[str, Any]:
    """Return a job's record, with what is proved and the addresses to ask."""
    view, address = job_view(job, position=position), _address(job)
    asked = view.pop("request")
    return {
        **view,
        **asked,
        "resumable": can_resume(job),
        "addresses": {
            "state": address,
            "events": f"{address}/events",
            "cancel": f"{address}/cancel",
        },
    }


def _address(job: Job) -> str:
    return f"/proofs/{job.id}"
