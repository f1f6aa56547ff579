"""`/proofs`: proofs that are jobs, which have no deadline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel
from quart_schema import document_request, document_response

from ml.errors import DeadlineExceeded, InvalidInput, ServiceError
from ml.infernet.json_text import to_json
from ml.jobs.job import Job
from ml.proving.proof_jobs import can_resume
from ml.serving.job_views import JobRecord, job_view
from ml.serving.jobs import JobForm, add_job_routes
from ml.serving.json_body import json_body
from ml.serving.reply import Reply
from ml.serving.service_output import SERVICE_OUTPUT_PATH, ServiceOutput
from ml.workflows.accepted import Accepted
from ml.workflows.proof.ezkl_proof_workflow import EZKLProofWorkflow
from ml.workflows.proof.proof_input import ProofInput

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

PATH = "/proofs"


class ProofList(BaseModel):
    """Proofs that are jobs, newest first, without their results."""

    proofs: list[JobRecord]


class ProofForm(JobForm):
    """Shows what is proved and the addresses to ask; lists are without results."""

    list_name: ClassVar[str] = "proofs"
    listed: ClassVar[type[BaseModel]] = ProofList
    stopping: ClassVar[str] = "Job stops"

    def record(self, job: Job, position: int | None) -> dict[str, Any]:
        """Return a job's record and place."""
        view, address = job_view(job, position), _address(job)
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

    def page(self, views: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
        """Return a list of jobs."""
        return super().page([{**view, "result": None} for view in views], has_more)


class ProofOutput(ServiceOutput):
    """Answers with a job where a proof is expected not to fit the request's deadline."""

    gives_jobs = True

    def __init__(self, workflow: EZKLProofWorkflow, form: ProofForm) -> None:
        super().__init__(workflow)
        self._form = form

    async def accepted(self, accepted: Accepted) -> Reply:
        """Return what `POST /proofs` does, and once the job has ended its record alone."""
        job = accepted.job
        view = to_json(await self._form.view(job))
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
    from ml.serving.job_metrics import JobMetrics  # reads the environment set meanwhile

    jobs = workflow.jobs
    app.metrics.sources.append(JobMetrics(lambda: jobs.store))
    form = ProofForm(jobs)
    app.endpoints[SERVICE_OUTPUT_PATH] = ProofOutput(workflow, form)

    @app.post(PATH)
    @document_request(ProofInput)
    @document_response(JobRecord, 202)
    async def prove() -> tuple[dict[str, Any], int, dict[str, str]]:
        """Queue a proof of an artifact's answer to a tensor, the `data` of /service_output."""
        tensor = await workflow.in_thread(workflow.decode_offchain, await json_body())
        if not isinstance(tensor, ProofInput):
            raise InvalidInput("give a tensor; GET /proofs/JOB tells of a job")
        job = await workflow.submit(tensor)
        return await form.view(job), 202, {"Location": _address(job)}

    add_job_routes(app, PATH, form)


def _address(job: Job) -> str:
    return f"{PATH}/{job.id}"
