"""The addresses that every service has beside `/service_output`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import orjson
import structlog
from pydantic import RootModel
from quart import Response, request
from quart_schema import document_querystring, document_response, hide
from werkzeug.exceptions import HTTPException

from ml.errors import (
    BodyTimeout,
    InternalError,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    ServiceError,
    error_body,
    storage_failure,
)
from ml.infernet.message import InfernetInput
from ml.infernet.resources import service_resources
from ml.serving.answers import About, AnyObject, Live, PlainText, Readiness, Resources
from ml.serving.availability import needs_no_workflow
from ml.serving.endpoint import add_endpoint
from ml.serving.health import State
from ml.serving.input_form import add_input_form
from ml.serving.models import ModelQuery, models_of
from ml.serving.pages.page import Page, add_page
from ml.serving.service_output import SERVICE_OUTPUT_PATH, ServiceOutput

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

__all__ = ["add_error_handlers", "add_routes"]

log = structlog.get_logger(__name__)

#: Failures that Quart itself finds, as ours.
_OURS = {
    error.status: error for error in (NotFound, MethodNotAllowed, BodyTimeout, PayloadTooLarge)
}


class Answer(RootModel[Any]):
    """The workflow's output, or the five hex fields for an ONCHAIN destination."""


_WHAT_SERVICE_OUTPUT_DOES = """Answer an Infernet message with the workflow.

OFFCHAIN answers are the workflow's output as JSON, ONCHAIN answers have the five hex fields
raw_input, processed_input, raw_output, processed_output and proof, STREAM answers are text as it is
made. An OFFCHAIN answer without the proof that `requires_proof` asked for has the header
`X-Proof: none`.
"""


def add_routes(app: ServiceApp) -> None:
    """Register them on an application."""

    @app.before_request
    async def name_route() -> None:
        if request.url_rule is not None:
            cast(dict[str, Any], request.scope)["route"] = request.url_rule.rule

    @document_response(About)
    async def about() -> dict[str, str]:
        """Name, version and workflow of this service; a page to browsers."""
        return {
            "name": app.name,
            "version": app.service_version,
            "workflow": app.settings.workflow_class,
        }

    what_for = "See what this service is, whether it answers, and what can be done here."
    add_page(app, Page("/", "Service", "service.html", what_for), others=about)

    @app.get("/health/live")
    @document_response(Live)
    async def live() -> dict[str, str]:
        """Answer as long as the process runs; asks nothing of the workflow."""
        return {"state": "live"}

    @app.get("/health")
    @app.get("/health/ready")
    @document_response(Readiness)
    @document_response(Readiness, 503)
    async def ready() -> tuple[dict[str, Any], int]:
        """200 while requests are answered, else 503 with the state and the reason."""
        return await _readiness(app)

    @app.get("/service-resources")
    @document_querystring(ModelQuery)
    @document_response(Resources)
    async def resources() -> dict[str, Any]:
        """What this container can do, or whether it answers for a model."""
        if model_id := ModelQuery.asked().model_id:
            return {"supported": app.workflow.supports_model(model_id)}
        return service_resources(app.name, app.workflow.compute_capability())

    @app.get("/config")
    @document_response(AnyObject)
    @needs_no_workflow
    async def config() -> dict[str, Any]:
        """Return the effective settings, secrets hidden, and what the workflow chose by itself."""
        return {**app.settings.public_view(), **app.workflow.chosen()}

    @app.get("/metrics")
    @document_response(PlainText)
    @needs_no_workflow
    async def metrics() -> Response:
        """Return the metrics of all workers, in Prometheus' text format."""
        content_type = "text/plain; version=0.0.4; charset=utf-8"
        return Response(await app.metrics.text(), content_type=content_type)

    @app.get("/favicon.ico")
    @hide
    async def favicon() -> tuple[str, int]:
        return "", 204

    add_endpoint(
        app,
        SERVICE_OUTPUT_PATH,
        ServiceOutput(app.workflow),
        InfernetInput,
        _WHAT_SERVICE_OUTPUT_DOES,
        Answer,
        besides_json=app.workflow.body_formats,
    )
    add_input_form(app)


async def _readiness(app: ServiceApp) -> tuple[dict[str, Any], int]:
    health = app.health
    state, reason, message = health.state, health.reason, health.message
    if state is State.READY and (fault := await app.workflow_check.fault()):
        state, reason, message = State.UNAVAILABLE, "workflow_check_failed", fault
    elif state is State.READY and app.admission.is_full:
        state = State.BUSY
    document: dict[str, Any] = {
        "state": state,
        "reason": reason,
        "checks": {
            "workflow": {"ok": not message or state is State.DRAINING, "message": message},
            "accepting": {"ok": state is not State.DRAINING},
        },
    }
    if (models := models_of(app.workflow)) is not None:
        document["models"] = models.state()
    if state in (State.READY, State.BUSY):
        return document, 200
    return {**error_body(503, message), **document}, 503


def add_error_handlers(app: ServiceApp) -> None:
    """Give every failure of a Quart view the form that is due at its address."""

    @app.errorhandler(ServiceError)
    async def service_error(error: ServiceError) -> Response:
        reply = app.error_form(request.path)(error)
        response = Response(cast(bytes, reply.body), reply.status, content_type="application/json")
        response.headers.update({k.decode(): v.decode() for k, v in reply.headers})
        return response

    @app.errorhandler(HTTPException)
    async def http_error(error: HTTPException) -> Response:
        status = error.code or 500
        if status in _OURS:
            response = await service_error(_OURS[status]())
        else:
            text = orjson.dumps(error_body(status, error.description or ""))
            response = Response(text, status, content_type="application/json")
        for name, value in error.get_headers():
            if name.lower() in ("allow", "retry-after"):
                response.headers[name] = value
        return response

    @app.errorhandler(Exception)
    async def unknown_error(error: Exception) -> Response:
        log.error("request_failed", path=request.path, exc_info=error)
        return await service_error(storage_failure(error) or InternalError())
