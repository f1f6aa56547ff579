"""`PUT /v1/adapters/NAME`: an adapter is handed over, as a trainer does that has no folder here."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator
from quart import request
from quart_schema import document_querystring, document_response

from ml.errors import Forbidden, InvalidInput, NotFound, PayloadTooLarge
from ml.serving.adapters import Adapter
from ml.serving.media_types import takes
from ml.serving.query import Query

if TYPE_CHECKING:
    from ml.generation.adapter_leases import AdapterLeases
    from ml.serving.app import ServiceApp

__all__ = ["add_adapter_uploads"]

_WRITTEN_BYTES = 1 << 20


_SHA256 = re.compile(r"[0-9a-f]{64}")


class UploadQuery(Query):
    """How an adapter is handed over."""

    sha256: str | None = Field(
        default=None, description="That of the zip: one that arrives otherwise is refused"
    )
    replace: bool = Field(
        default=False, description="Whether it takes the place of another adapter of its name"
    )

    @field_validator("sha256")
    @classmethod
    def _is_one(cls, value: str | None) -> str | None:
        if value is not None and not _SHA256.fullmatch(value):
            raise ValueError("give 64 hexadecimal digits in lower case")
        return value


def add_adapter_uploads(app: ServiceApp, most_bytes: int) -> None:
    """Register the address; where `most_bytes` is 0, it says what to set."""
    app.body_limits["/v1/adapters/"] = most_bytes

    def adapters() -> AdapterLeases:
        if not most_bytes:
            raise Forbidden("Adapters are not taken here: set FLASK_LLM_MAX_ADAPTER_BYTES.")
        model = app.workflow.text_generation
        if model is None or model.adapters is None:
            raise NotFound("This service has no folder for adapters: set adapters_path.")
        return model.adapters

    @app.put("/v1/adapters/<name>")
    @document_querystring(UploadQuery)
    @document_response(Adapter)
    @takes("application/zip")
    async def upload_adapter(name: str) -> dict[str, Any]:
        """Keep an adapter, a zip of its folder, and load it."""
        from ml.generation.adapter_archive import unpack_adapter  # brings torch

        query, leases = UploadQuery.asked(), adapters()
        leases.folder.check_name(name)
        _require_fitting(request.content_length or 0, most_bytes)
        scratch = await asyncio.to_thread(leases.folder.scratch)
        try:
            archive = scratch / ".zip"
            digest = await _write(archive, most_bytes)
            _require_digest(digest, query.sha256)
            await asyncio.to_thread(unpack_adapter, archive, scratch, most_bytes=most_bytes)
            await asyncio.to_thread(archive.unlink)
            await asyncio.to_thread(leases.add, name, scratch, replaces=query.replace)
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
        async with leases.hold(name):
            return {"id": name, "object": "adapter", "loaded": True, "in_use": False}


async def _write(target: Path, most_bytes: int) -> str:
    """Write the body as it comes, and return its SHA-256."""
    digest, unwritten, size = hashlib.sha256(), bytearray(), 0
    with await asyncio.to_thread(target.open, "wb") as file:
        async for piece in request.body:
            size += len(piece)
            _require_fitting(size, most_bytes)
            unwritten += piece
            if len(unwritten) >= _WRITTEN_BYTES:
                await asyncio.to_thread(file.write, bytes(unwritten))
                digest.update(unwritten)
                unwritten.clear()
        await asyncio.to_thread(file.write, bytes(unwritten))
        digest.update(unwritten)
    return digest.hexdigest()


def _require_digest(digest: str, due: str | None) -> None:
    if due is not None and due != digest:
        raise InvalidInput(f"sha256: the body that came has {digest}; send it again")


def _require_fitting(size: int, most_bytes: int) -> None:
    if size > most_bytes:
        raise PayloadTooLarge(
            f"the zip is over {most_bytes} bytes; FLASK_LLM_MAX_ADAPTER_BYTES raises this limit"
        )
