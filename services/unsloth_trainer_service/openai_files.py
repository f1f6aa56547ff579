"""`/v1/files`: training data uploaded as OpenAI's clients do, and the numbers of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from quart import Response
from quart_schema import (
    DataSource,
    document_querystring,
    document_request,
    document_response,
)

from ml.errors import InvalidInput, NotFound
from ml.finetuning.uploads import TRAINING_DATA, check_name
from ml.serving.answers import FileContent
from ml.serving.media_types import takes
from ml.serving.multipart import Form, read_form
from ml.serving.openai.answers import Deleted
from ml.serving.openai.errors import error_reply
from ml.serving.openai.page import list_page
from ml.serving.openai.routes import OPENAI_PATHS
from ml.serving.paging import PageQuery
from ml.workflows.training.unsloth_trainer_workflow import UnslothTrainerWorkflow
from unsloth_trainer_service.answers import FileEntry, FileList
from unsloth_trainer_service.run_files import stored_file_reply

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

_MOST_FILES = 10_000


class Upload(BaseModel):
    """The form of `POST /v1/files`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"file": "@rows.jsonl", "purpose": "fine-tune"}]}
    )

    file: bytes = Field(
        description="A file of training data", json_schema_extra={"format": "binary"}
    )
    purpose: Literal["fine-tune"] = "fine-tune"


class FilesQuery(PageQuery):
    """A page of files."""

    limit: int = Field(
        default=_MOST_FILES, ge=1, le=_MOST_FILES, description="How many files, at most"
    )
    order: Literal["asc", "desc"] = Field(default="desc", description="desc: the newest first")
    purpose: str | None = Field(default=None, description="Only files that are there for this")


def add_files(app: ServiceApp, workflow: UnslothTrainerWorkflow) -> None:
    """Register the addresses."""
    app.error_forms[OPENAI_PATHS] = error_reply
    uploads = workflow.uploads
    most_bytes = workflow.settings.max_upload_bytes
    app.body_limits["/v1/files"] = most_bytes

    @app.post("/v1/files")
    @document_request(Upload, source=DataSource.FORM_MULTIPART)
    @document_response(FileEntry)
    @takes("multipart/form-data")
    async def upload_file() -> dict[str, Any]:
        """Keep a file of training data; it is written to the disk as it comes."""
        scratch = await workflow.in_thread(uploads.scratch)
        try:
            form = await read_form(
                scratch, check_name, most_bytes, "TRAINER_MAX_UPLOAD_BYTES", workflow.in_thread
            )
            _check_fields(form)
            return await workflow.in_thread(uploads.keep, scratch, form.filename)
        finally:
            scratch.unlink(missing_ok=True)

    @app.get("/v1/files")
    @document_querystring(FilesQuery)
    @document_response(FileList)
    async def list_files() -> dict[str, Any]:
        """Return the files, newest first, a page at a time."""
        query = FilesQuery.asked()
        entries = await workflow.in_thread(uploads.list)
        if query.order == "asc":
            entries.reverse()
        if query.purpose:
            entries = [entry for entry in entries if entry["purpose"] == query.purpose]
        if query.after:
            ids = [entry["id"] for entry in entries]
            if query.after not in ids:
                raise NotFound(f"There is no file {query.after!r}.")
            entries = entries[ids.index(query.after) + 1 :]
        return list_page(entries[: query.limit], len(entries) > query.limit)

    @app.get("/v1/files/<file_id>")
    @document_response(FileEntry)
    async def file_object(file_id: str) -> dict[str, Any]:
        """Return a file's entry."""
        return await workflow.in_thread(uploads.entry, file_id)

    @app.get("/v1/files/<file_id>/content")
    @document_response(FileContent)
    async def file_content(file_id: str) -> Response:
        """Send a file's content; takes `Range`, and `ETag` is its SHA-256."""
        entry = await workflow.in_thread(uploads.entry, file_id)
        stored = await workflow.in_thread(uploads.stored, entry)
        return await stored_file_reply(workflow, stored, name=entry["filename"])

    @app.delete("/v1/files/<file_id>")
    @document_response(Deleted)
    async def delete_file(file_id: str) -> dict[str, Any]:
        """Remove a file, unless a job that has not ended needs it."""
        await workflow.require_unneeded(file_id)
        await workflow.in_thread(uploads.delete, file_id)
        return {"id": file_id, "object": "file", "deleted": True}


def _check_fields(form: Form) -> None:
    if form.fields.get("purpose", TRAINING_DATA) != TRAINING_DATA:
        raise InvalidInput(f"purpose: only {TRAINING_DATA!r} is taken")
    for name in form.fields:
        if name != "purpose":
            field = name.partition("[")[0]
            raise InvalidInput(f"{field}: not supported here; leave it out")
