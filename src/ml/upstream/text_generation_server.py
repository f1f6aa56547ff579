"""A text generation server behind us: TGI, or one with OpenAI's API.

A text for TGI goes to its chat route too, as the one turn of a conversation: models that were
taught to converse say little, or nothing, to a text without their chat template.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any, NoReturn

import aiohttp
import httpx
import structlog
from httpx_aiohttp import AiohttpTransport
from huggingface_hub import AsyncInferenceClient

from ml import tracing
from ml.errors import ConfigurationError, GenerationFailed, NotReady, UpstreamError
from ml.upstream.failures import FAILURES, as_service_error, lacks_chat
from ml.upstream.parameters import Api, GenerationParameters
from ml.upstream.retries import with_retries
from ml.upstream.retry_parameters import RetryParameters

__all__ = ["TextGenerationServer"]

log = structlog.get_logger(__name__)

#: The longest silence of the server: the node's own patience.
_READ_SECONDS = 180.0
_PROBE_SECONDS = 5.0
#: OpenAI's name of a parameter of TGI's; what is in neither goes along as it is.
_OPENAI_NAMES = {"max_new_tokens": "max_tokens", "adapter_id": "model"}
_OPENAI_PARAMETERS = frozenset(
    {"frequency_penalty", "max_tokens", "model", "seed", "stop", "temperature", "top_p"}
)


class TextGenerationServer:
    """Asks one server, over a pool of connections.

    `open()` finds out which API it speaks, unless `api` says so, and which model it has. With
    "tgi" texts are sent as they are; without `api`, TGI's chat route is used where the server has
    one, its model a chat template, and the parameters are those of that route. Failures that pass
    are tried again as `retries` says; a stream only before its first token.
    """

    def __init__(
        self,
        url: str,
        *,
        connect_seconds: float,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        token: str | None = None,
        api: Api | None = None,
        retries: RetryParameters | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.api = api
        self.model = ""
        self._has_chat = api != "tgi"
        self._headers = dict(headers or {})
        self._cookies = dict(cookies or {})
        self._token = token
        self._retries = retries or RetryParameters()
        self._timeout = httpx.Timeout(_READ_SECONDS, connect=connect_seconds, pool=None)
        self._pool: httpx.AsyncClient | None = None

    async def open(self) -> None:
        """Connect and look at the server.

        Raises `UpstreamError` or another `ServiceError` if it cannot be used now, and
        `ConfigurationError` if it speaks neither API.
        """
        self._pool = httpx.AsyncClient(
            auth=self._authorize,
            cookies=self._cookies,
            event_hooks={"response": [_read_errors]},
            follow_redirects=True,
            timeout=self._timeout,
            transport=AiohttpTransport(client=_connections),
        )
        try:
            await self._look()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close all connections."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.aclose()

    async def check(self) -> None:
        """Raise `UpstreamError` unless the server says that it is healthy."""
        response = await self._get("/health")
        if response.is_error:
            raise UpstreamError(
                f"The model server says that it is not healthy ({response.status_code})."
            )

    async def generate(self, text: str, parameters: GenerationParameters) -> str:
        """Return the server's answer to a text."""

        async def ask() -> str:
            async with self._client() as client:
                chat = await self._ask_chat(client, text, parameters)
                if chat is not None:
                    return chat.choices[0].message.content or ""
                return str(await client.text_generation(text, **parameters.given()))

        with tracing.span("generate", "client", {"server.address": self.url}):
            try:
                answer = await with_retries(ask, self._retries)
            except FAILURES as error:
                raise as_service_error(error) from error
        if not answer:
            raise self._empty_answer()
        return answer

    async def stream(
        self, text: str, parameters: GenerationParameters
    ) -> AsyncGenerator[str, None]:
        """Yield the server's answer piece by piece; closing it closes the server's request."""

        async def begin() -> tuple[str, AsyncGenerator[str, None]]:
            pieces = self._pieces(text, parameters)
            return await anext(pieces, ""), pieces

        try:
            first, pieces = await with_retries(begin, self._retries)
            async with contextlib.aclosing(pieces):
                if not first:
                    raise self._empty_answer()
                yield first
                async for piece in pieces:
                    yield piece
        except FAILURES as error:
            raise as_service_error(error) from error

    async def _pieces(
        self, text: str, parameters: GenerationParameters
    ) -> AsyncGenerator[str, None]:
        async with self._client() as client:
            chunks = await self._ask_chat(client, text, parameters, stream=True)
            if chunks is not None:
                async with contextlib.aclosing(chunks):
                    async for chunk in chunks:
                        if chunk.choices and (content := chunk.choices[0].delta.content):
                            yield content
                return
            events = await client.text_generation(
                text, **parameters.given(), details=True, stream=True
            )
            async with contextlib.aclosing(events):
                async for event in events:
                    if event.token.text and not event.token.special:
                        yield event.token.text

    async def _ask_chat(
        self,
        client: AsyncInferenceClient,
        text: str,
        parameters: GenerationParameters,
        *,
        stream: bool = False,
    ) -> Any:
        """Return what the chat route answers; None where the text is to be sent as it is."""
        named = {_OPENAI_NAMES.get(name, name): value for name, value in parameters.given().items()}
        extra = {name: named.pop(name) for name in list(named) if name not in _OPENAI_PARAMETERS}
        if not self._has_chat or (self.api == "tgi" and extra):
            return None
        # TGI takes any other name than its own for an adapter's.
        request = {"model": "tgi" if self.api == "tgi" else self.model, **named}
        try:
            return await client.chat_completion(
                [{"role": "user", "content": text}],
                **request,
                stream=stream,
                extra_body=extra or None,
            )
        except FAILURES as error:
            if self.api != "tgi" or not lacks_chat(error):
                raise
        self._has_chat = False
        log.info("upstream_has_no_chat", model=self.model)
        return None

    def _empty_answer(self) -> GenerationFailed:
        text = "The model server answered with an empty text."
        if self.api == "tgi":
            text += (
                " A model for conversations does so without its chat template, which /generate "
                "does not use: see `api` of this service, and leave out parameters that only "
                "/generate has."
            )
        return GenerationFailed(text)

    # --- connections --------------------------------------------------------------------------

    def _client(self) -> AsyncInferenceClient:
        if self._pool is None:
            raise NotReady("The connection to the model server is closed.")
        return _PooledClient(
            self._pool,
            self.url,
            token=self._token or "none",  # else the client looks for one on the disk
            headers=self._headers,
            timeout=self._timeout,
        )

    def _authorize(self, request: httpx.Request) -> httpx.Request:
        """Send our token, or the header that the operator gave, and no other; and whose request."""
        given = {name.lower(): value for name, value in self._headers.items()}.get("authorization")
        request.headers.pop("authorization", None)
        if given or self._token:
            request.headers["authorization"] = given or f"Bearer {self._token}"
        request.headers.update(tracing.goes_with())
        return request

    async def _look(self) -> None:
        if self.api != "openai":
            response = await self._get("/info")
            if response.is_success:
                self.api, self.model = "tgi", self._read(response)["model_id"]
                await self.check()
                return
            if self.api == "tgi" or response.status_code != 404:
                self._raise(response)
        response = await self._get("/v1/models")
        if response.status_code == 404:
            raise self._no_text_generation()
        if response.is_error:
            self._raise(response)
        self.api, self.model = "openai", self._read(response)["data"][0]["id"]

    def _read(self, response: httpx.Response) -> Any:
        try:
            document = response.json()
            document.get("model_id") or document["data"][0]["id"]
        except (ValueError, LookupError, AttributeError, TypeError):
            raise self._no_text_generation() from None
        return document

    def _no_text_generation(self) -> ConfigurationError:
        return ConfigurationError(
            f"{self.url} answers neither /info as TGI does nor /v1/models as OpenAI does: is this "
            "the address of a text generation server?"
        )

    def _raise(self, response: httpx.Response) -> NoReturn:
        error = httpx.HTTPStatusError("", request=response.request, response=response)
        raise as_service_error(error) from error

    async def _get(self, path: str) -> httpx.Response:
        if self._pool is None:
            raise NotReady("The connection to the model server is closed.")
        timeout = httpx.Timeout(_PROBE_SECONDS)
        try:
            return await self._pool.get(self.url + path, headers=self._headers, timeout=timeout)
        except httpx.HTTPError as error:
            raise as_service_error(error) from error


def _connections() -> aiohttp.ClientSession:
    """Return aiohttp's pool: httpx's own looks at every connection for each request.

    How many requests there are at once is decided at the door, not here.
    """
    connector = aiohttp.TCPConnector(limit=0, ssl=httpx.create_ssl_context())
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


class _PooledClient(AsyncInferenceClient):
    """The hub's client for one request, on connections that outlive it.

    The hub's own client keeps each stream open until the client itself is closed, so one client
    for all requests would never close what a caller leaves.
    """

    def __init__(self, pool: httpx.AsyncClient, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._pool = pool

    async def _get_async_client(self) -> httpx.AsyncClient:
        return self._pool


async def _read_errors(response: httpx.Response) -> None:
    if response.is_error:  # the body says why, also where a stream was asked for
        await response.aread()
