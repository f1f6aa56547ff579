"""Forms with a file, which goes to the disk as it comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from quart import request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, File, MultipartDecoder, NeedData
from werkzeug.sansio.multipart import Field as FieldEvent

from ml.errors import InvalidInput, PayloadTooLarge, ServiceError
from ml.serving.endpoint import InThread

__all__ = ["Form", "read_form"]

#: Written at a time, in a thread: what lies in memory of a file.
_WRITTEN_BYTES = 1 << 20
_MOST_FIELD_BYTES = 16 * 1024
_MOST_PARTS, _MOST_HEAD_BYTES = 16, 64 * 1024
#: The most that is read behind a refusal: a client that is cut off never sees why.
_DROPPED_BYTES = 64 << 20


@dataclass
class Form:
    """A form's fields, and the name of its file."""

    filename: str = ""
    fields: dict[str, str] = field(default_factory=dict)


async def read_form(
    target: Path,
    check_name: Callable[[str], None],
    most_bytes: int,
    setting: str,
    in_thread: InThread,
) -> Form:
    """Write the part `file` of the request's form to `target`, and return the rest of the form.

    `check_name` may refuse the file's name before anything is written. Raises `InvalidInput` for
    what is no such form, and `PayloadTooLarge` naming the `setting` beyond `most_bytes`.
    """
    with await in_thread(target.open, "wb") as file:
        reader = _Reader(file, check_name, most_bytes, setting, in_thread)
        try:
            await reader.read()
        except (ServiceError, OSError):
            await _drop_rest()
            raise
    return reader.form


class _Reader:
    def __init__(
        self,
        file: BinaryIO,
        check_name: Callable[[str], None],
        most_bytes: int,
        setting: str,
        in_thread: InThread,
    ) -> None:
        self.form = Form()
        self._file = file
        self._check_name = check_name
        self._most_bytes = most_bytes
        self._setting = setting
        self._in_thread = in_thread
        self._part: File | FieldEvent | None = None
        self._unwritten = bytearray()
        self._read = 0
        self._written = 0

    async def read(self) -> None:
        """Read the whole body."""
        boundary = request.mimetype_params.get("boundary")
        if request.mimetype != "multipart/form-data" or not boundary:
            raise InvalidInput("file: send the file as a part of a multipart form")
        self._require_fitting(request.content_length or 0)
        decoder = MultipartDecoder(boundary.encode("latin-1"), max_parts=_MOST_PARTS)
        try:
            async for piece in request.body:
                self._read += len(piece)
                self._require_fitting(self._read)
                decoder.receive_data(piece)
                if await self._take_events(decoder):
                    break
                if len(decoder.buffer) > _MOST_HEAD_BYTES:
                    raise ValueError("a part has no end of its head")
            else:
                decoder.receive_data(None)
                await self._take_events(decoder)
        except ValueError as error:
            if isinstance(error, ServiceError):
                raise
            raise InvalidInput(f"the form is broken: {error}") from None
        except RequestEntityTooLarge:
            raise InvalidInput(f"the form has more than {_MOST_PARTS} parts") from None
        await self._write()
        if not self.form.filename:
            raise InvalidInput("file: send the file as a part of a multipart form")

    async def _take_events(self, decoder: MultipartDecoder) -> bool:
        """Take what the decoder has; return whether the form is whole."""
        while not isinstance(event := decoder.next_event(), NeedData):
            if isinstance(event, Epilogue):
                return True
            if isinstance(event, File | FieldEvent):
                self._begin(event)
            elif isinstance(event, Data):
                await self._add(event.data)
        return False

    def _begin(self, part: File | FieldEvent) -> None:
        self._part = part
        if isinstance(part, FieldEvent):
            self.form.fields[part.name or ""] = ""
            return
        if part.name != "file" or self.form.filename:
            raise InvalidInput("file: send one file, as the part 'file'")
        self._check_name(part.filename)
        self.form.filename = part.filename

    async def _add(self, data: bytes) -> None:
        if isinstance(self._part, FieldEvent):
            name = self._part.name or ""
            self.form.fields[name] += data.decode("utf-8", "replace")
            if len(self.form.fields[name]) > _MOST_FIELD_BYTES:
                raise InvalidInput(f"{name[:100]}: the field is over {_MOST_FIELD_BYTES} bytes")
        elif self._part is not None:
            self._unwritten += data
            if len(self._unwritten) >= _WRITTEN_BYTES:
                await self._write()

    async def _write(self) -> None:
        data, self._unwritten = bytes(self._unwritten), bytearray()
        await self._in_thread(self._file.write, data)

    def _require_fitting(self, size: int) -> None:
        if size > self._most_bytes:
            raise PayloadTooLarge(
                f"file: the upload is over {self._most_bytes} bytes; {self._setting} of the "
                "service raises this limit"
            )


async def _drop_rest() -> None:
    dropped = 0
    async for piece in request.body:
        dropped += len(piece)
        if dropped > _DROPPED_BYTES:
            return
