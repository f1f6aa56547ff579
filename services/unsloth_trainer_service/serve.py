"""`POST /v1/models/NAME/serve`: a tuned model is handed to an LLM service, which answers by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import Field
from quart_schema import document_querystring, document_response

from ml.errors import NotReady, ServiceError, UnprocessableInput, UpstreamError, UpstreamRefused
from ml.finetuning.run_files import RunFile
from ml.generation.request import AdapterTaken
from ml.jobs.stored_file import StoredFile
from ml.serving.json_body import refuse_body
from ml.serving.query import Query
from ml.workflows.training.unsloth_trainer_workflow import UnslothTrainerWorkflow
from unsloth_trainer_service.answers import Served

if TYPE_CHECKING:
    import httpx
    from pydantic import SecretStr

    from ml.serving.app import ServiceApp

__all__ = ["LLMService", "add_serve"]

_PART_BYTES = 1 << 20
_CONNECT_SECONDS, _SEND_SECONDS, _LOAD_SECONDS = 5.0, 60.0, 300.0


class ServeQuery(Query):
    """How a model is handed over."""

    replace: bool = Field(
        default=False, description="Whether it takes the place of another model of its name"
    )


class LLMService:
    """The LLM service of `TRAINER_SERVE_URL`, which is asked with `TRAINER_SERVE_KEY`."""

    def __init__(self, url: str, key: SecretStr | None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Content-Type": "application/zip"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key.get_secret_value()}"

    async def take(self, name: str, archive: StoredFile, sha256: str, *, replaces: bool) -> None:
        """Hand over the zip of an adapter, which is loaded there.

        Raises `AdapterTaken` where there is another one of the name, `UpstreamRefused` with the
        reason for one that is not taken, `NotReady` and `UpstreamError`.
        """
        import httpx

        timeout = httpx.Timeout(_LOAD_SECONDS, connect=_CONNECT_SECONDS, write=_SEND_SECONDS)
        address = f"{self._url}/v1/adapters/{quote(name, safe='')}"
        wish = {"sha256": sha256, **({"replace": "true"} if replaces else {})}
        headers = {**self._headers, "Content-Length": str(archive.size)}
        try:
            async with httpx.AsyncClient(timeout=timeout) as client:
                reply = await client.put(
                    address, params=wish, headers=headers, content=_pieces(archive)
                )
        except httpx.TransportError as error:
            raise UpstreamError(
                "The LLM service of TRAINER_SERVE_URL cannot be reached, or broke off: "
                f"{type(error).__name__}."
            ) from None
        if not reply.is_success:
            raise _failure(reply, name)


def _failure(reply: httpx.Response, name: str) -> ServiceError:
    told = f"it answered {reply.status_code}"
    with suppress(ValueError, KeyError, TypeError):
        told = str(reply.json()["error"]["message"])
    if reply.status_code == 409:
        return AdapterTaken(
            f"The LLM service has another model {name!r}; with ?replace=true it is replaced."
        )
    if reply.status_code == 401:
        return UpstreamError("The LLM service refuses the key in TRAINER_SERVE_KEY.")
    if reply.status_code == 503:
        return NotReady(f"The LLM service: {told}", retry_after_seconds=5)
    if reply.status_code in (400, 403, 404, 405, 413, 415, 422, 507):
        return UpstreamRefused(f"The LLM service does not take it: {told}")
    return UpstreamError(f"The LLM service failed: {told}")


async def _pieces(stored: StoredFile) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(stored.open)
    try:
        while piece := await asyncio.to_thread(file.read, _PART_BYTES):
            yield piece
    finally:
        await asyncio.to_thread(file.close)


def add_serve(app: ServiceApp, workflow: UnslothTrainerWorkflow, llm: LLMService | None) -> None:
    """Register the address; without an LLM service, it says what to set."""

    @app.post("/v1/models/<name>/serve")
    @document_querystring(ServeQuery)
    @document_response(Served)
    async def serve_model(name: str) -> dict[str, Any]:
        """Hand a tuned model to the LLM service."""
        query = ServeQuery.asked()
        await refuse_body()
        archive = _archive(await workflow.tuned.files(name), name)
        if llm is None:
            raise UnprocessableInput(
                "No LLM service is known here: set TRAINER_SERVE_URL, and TRAINER_SERVE_KEY if it "
                "asks for a key."
            )
        digest = await workflow.in_thread(workflow.tuned.hashes.sha256, archive)
        await llm.take(name, archive, digest, replaces=query.replace)
        return {"id": name, "object": "model", "served": True}


def _archive(files: list[RunFile], name: str) -> StoredFile:
    for file in files:
        if file.kind == "archive":
            return file.stored
    raise UnprocessableInput(f"{name!r} has no archive to hand over: its run has not ended well.")
