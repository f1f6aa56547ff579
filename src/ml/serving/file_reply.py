"""A file as a reply: whole, or the range that was asked for, read as it is sent."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import quote

from quart import Response, current_app, request
from quart.wrappers.response import ResponseBody
from werkzeug.datastructures import Range
from werkzeug.http import dump_options_header

from ml.errors import RangeNotSatisfiable

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

__all__ = ["file_reply"]

_PART_BYTES = 1 << 20


async def file_reply(
    opened: Callable[[], BinaryIO], *, size: int, sha256: str, name: str
) -> Response:
    """Return the first `size` bytes of a file to a client that keeps it as `name`.

    `opened` returns the file, in a thread, if it is to be read. The hash is the `ETag`: a download
    goes on where it broke off only if the file is the same.
    """
    if request.if_none_match.contains_weak(sha256):
        return _with_tag(Response(status=304), sha256)
    begin, end, status = 0, size, 200
    if (wished := _wished_range(sha256)) is not None:
        given = _range_of(wished, size)
        if given is None:
            return _out_of_range(size)
        (begin, end), status = given, 206
    body: _Part | bytes = b""
    if request.method == "GET":
        body = _Part(await asyncio.to_thread(_at, opened, begin), end - begin)
    response = Response(body, status)
    response.content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    response.content_length = end - begin
    if status == 206:
        response.headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
    response.headers["Content-Disposition"] = _disposition(name.rpartition("/")[2])
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.timeout = None  # else Quart cuts it after a minute
    return _with_tag(response, sha256)


def _with_tag(response: Response, sha256: str) -> Response:
    response.set_etag(sha256)
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Cache-Control"] = "private, no-cache"
    return response


def _wished_range(sha256: str) -> Range | None:
    """Return the one range that is asked for; all others are answered by the whole."""
    wished, only_if = request.range, request.if_range
    if wished is None or wished.units != "bytes" or len(wished.ranges) > 1:
        return None
    has_condition = only_if.etag is not None or only_if.date is not None
    return None if has_condition and only_if.etag != sha256 else wished


def _range_of(wished: Range, size: int) -> tuple[int, int] | None:
    """Return where a range begins and ends; the last bytes of a shorter file are all it has."""
    begin, _ = wished.ranges[0]
    if begin is not None and begin < -size < 0:
        return 0, size
    return wished.range_for_length(size)


def _disposition(name: str) -> str:
    """Return the header that has a client keep the file as `name`, in letters of any script."""
    if name.isascii():
        return dump_options_header("attachment", {"filename": name})
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    told = f"UTF-8''{quote(name, safe='')}"
    return dump_options_header("attachment", {"filename": plain, "filename*": told})


def _out_of_range(size: int) -> Response:
    error = RangeNotSatisfiable(f"Range: the file has {size} bytes.")
    reply = cast("ServiceApp", current_app).error_form(request.path)(error)
    response = Response(cast(bytes, reply.body), reply.status, content_type="application/json")
    response.headers["Content-Range"] = f"bytes */{size}"
    return response


class _Part(ResponseBody):
    """So many bytes of an open file, from where it is; closes it."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size

    async def __aenter__(self) -> AsyncGenerator[bytes, None]:
        return self._pieces()

    async def __aexit__(self, kind: type, error: BaseException, trace: TracebackType) -> None:
        await asyncio.to_thread(self._file.close)

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        while self._left:
            piece = await asyncio.to_thread(self._file.read, min(_PART_BYTES, self._left))
            if not piece:  # it was cut meanwhile: what was announced does not come
                return
            self._left -= len(piece)
            yield piece


def _at(opened: Callable[[], BinaryIO], begin: int) -> BinaryIO:
    file = opened()
    try:
        file.seek(begin)
    except BaseException:
        file.close()
        raise
    return file
