"""`/v1/files`: training data uploaded as OpenAI's clients do."""

from __future__ import annotations

import json
import re
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quart import Response, request, send_file

from ml.errors import InvalidInput, NotFound
from ml.finetuning.data.reading import FILE_ENDINGS
from ml.serving.media_types import takes
from ml.serving.openai.replies import error_reply
from ml.serving.openai.routes import OPENAI_PATHS
from ml.workflows.training.unsloth_trainer_workflow import UnslothTrainerWorkflow
from unsloth_trainer_service.openai_errors import in_openais_words

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

_ID = re.compile(r"file-[0-9a-f]{24}")


def add_files(app: ServiceApp, workflow: UnslothTrainerWorkflow) -> None:
    """Register the addresses."""
    app.error_forms[OPENAI_PATHS] = error_reply

    @app.post("/v1/files")
    @takes("multipart/form-data")
    @in_openais_words
    async def upload_file() -> dict[str, Any]:
        """Keep a file of training data."""
        files = await request.files
        form = await request.form
        if "file" not in files:
            raise InvalidInput("file: send the file as a part of a multipart form")
        if form.get("purpose", "fine-tune") != "fine-tune":
            raise InvalidInput("purpose: only 'fine-tune' is taken")
        uploaded = files["file"]
        content = uploaded.read()
        return await workflow.in_thread(
            _keep, workflow.files_path, uploaded.filename or "", content
        )

    @app.get("/v1/files")
    @in_openais_words
    async def list_files() -> dict[str, Any]:
        """Return the files, newest first."""
        data = await workflow.in_thread(_list, workflow.files_path)
        return {"object": "list", "data": data, "has_more": False}

    @app.get("/v1/files/<file_id>")
    @in_openais_words
    async def file_object(file_id: str) -> dict[str, Any]:
        """Return a file's entry."""
        return await workflow.in_thread(_entry, workflow.files_path, file_id)

    @app.get("/v1/files/<file_id>/content")
    @in_openais_words
    async def file_content(file_id: str) -> Response:
        """Return a file's content."""
        entry = await workflow.in_thread(_entry, workflow.files_path, file_id)
        path = _data_file(workflow.files_path, entry)
        return await send_file(path, mimetype="application/octet-stream")

    @app.delete("/v1/files/<file_id>")
    @in_openais_words
    async def delete_file(file_id: str) -> dict[str, Any]:
        """Remove a file."""
        entry = await workflow.in_thread(_entry, workflow.files_path, file_id)
        _data_file(workflow.files_path, entry).unlink(missing_ok=True)
        (workflow.files_path / f"{file_id}.entry").unlink(missing_ok=True)
        return {"id": file_id, "object": "file", "deleted": True}


def _keep(folder: Path, name: str, content: bytes) -> dict[str, Any]:
    ending = Path(name).suffix.lower()
    if ending not in FILE_ENDINGS:
        raise InvalidInput(f"file: the name ends in none of {', '.join(FILE_ENDINGS)}")
    entry = {
        "id": f"file-{uuid.uuid4().hex[:24]}",
        "object": "file",
        "bytes": len(content),
        "created_at": int(time.time()),
        "filename": Path(name).name,
        "purpose": "fine-tune",
        "status": "processed",
    }
    (folder / f"{entry['id']}{ending}").write_bytes(content)
    (folder / f"{entry['id']}.entry").write_text(json.dumps(entry))  # last: it makes the file known
    return entry


def _list(folder: Path) -> list[dict[str, Any]]:
    entries = [json.loads(path.read_text()) for path in folder.glob("file-*.entry")]
    return sorted(entries, key=lambda entry: entry["created_at"], reverse=True)


def _entry(folder: Path, file_id: str) -> dict[str, Any]:
    path = folder / f"{file_id}.entry"
    if not _ID.fullmatch(file_id) or not path.is_file():
        raise NotFound(f"There is no file {file_id!r}.")
    entry: dict[str, Any] = json.loads(path.read_text())
    return entry


def _data_file(folder: Path, entry: dict[str, Any]) -> Path:
    return folder / f"{entry['id']}{Path(entry['filename']).suffix.lower()}"
