"""Requests to one text generation server, in JSON, over a pool of connections."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import aiohttp
import certifi
import orjson

from ml import tracing
from ml.errors import NotReady
from ml.json_text import JsonObject
from ml.upstream.failures import BrokenAnswer, Refused

__all__ = ["Connection"]

#: The longest silence of the server: the node's own patience.
_READ_SECONDS = 180.0
_PROBE = aiohttp.ClientTimeout(total=5.0)
_DONE = b"[DONE]"


class Connection:
    """Asks one server.

    All of its methods raise `Refused` for an answer other than 2xx, `BrokenAnswer` for one that is
    no JSON object, `NotReady` while it is not open, and what aiohttp raises.

    aiohttp is asked itself, because a client in front of it took five times as long as it.
    """

    def __init__(
        self,
        url: str,
        *,
        connect_seconds: float,
        headers: Mapping[str, str],
        cookies: Mapping[str, str],
        token: str | None,
    ) -> None:
        self.url = url.rstrip("/")
        self.timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=connect_seconds, sock_read=_READ_SECONDS
        )
        self._headers = {"content-type": "application/json"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"
        if cookies:
            self._headers["cookie"] = "; ".join(
                f"{name}={value}" for name, value in cookies.items()
            )
        self._headers |= {name.lower(): value for name, value in headers.items()}
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Begin; how many requests there are at once is decided at the door, not here."""
        connector = aiohttp.TCPConnector(limit=0, ssl=_trusted())
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar()
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def get(self, path: str) -> JsonObject:
        """Return what is read at a path; an empty answer is an empty object."""
        async with self._asking("GET", path, None, _PROBE) as response:
            return _object(await response.read() or b"{}")

    async def post(self, path: str, body: JsonObject) -> JsonObject:
        """Return the answer to a body; of a list of answers, the first."""
        async with self._asking("POST", path, body, self.timeout) as response:
            return _object(await response.read())

    async def stream(self, path: str, body: JsonObject) -> AsyncGenerator[JsonObject, None]:
        """Yield the events of an answer as they come; raises `Refused` for one that is an error."""
        async with self._asking("POST", path, body, self.timeout) as response:
            async for line in _lines(response):
                if not line.startswith(b"data:"):
                    continue
                data = line.removeprefix(b"data:").strip()
                if data == _DONE:
                    return
                event = _object(data)
                if event.get("error") is not None:
                    raise Refused(event)
                yield event

    @contextlib.asynccontextmanager
    async def _asking(
        self, method: str, path: str, body: JsonObject | None, limit: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            raise NotReady("The connection to the model server is closed.")
        async with self._session.request(
            method,
            self.url + path,
            data=None if body is None else orjson.dumps(body),
            headers=self._headers | tracing.goes_with(),
            timeout=limit,
        ) as response:
            if not response.ok:
                raise await _refusal(response)
            yield response


async def _refusal(response: aiohttp.ClientResponse) -> Refused:
    try:
        document = _object(await response.read())
    except (BrokenAnswer, aiohttp.ClientError):  # a proxy's page
        document = {}
    return Refused(document, response.status, response.headers.get("retry-after", ""))


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield lines of any length."""
    rest = b""
    async for part in response.content.iter_any():
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield line
    if rest:
        yield rest


def _object(text: bytes) -> JsonObject:
    try:
        value: Any = orjson.loads(text)
    except ValueError:
        raise BrokenAnswer("The model server answered with something else than JSON.") from None
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        raise BrokenAnswer("The model server answered with something else than an object.")
    return value


def _trusted() -> ssl.SSLContext:
    """Return whom to trust: certifi's authorities, unless OpenSSL's variables name others."""
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    return ssl.create_default_context(
        cafile=file or (None if folder else certifi.where()), capath=folder
    )
