"""A text generation server behind us: TGI, or one with OpenAI's API.

A text for TGI goes to its chat route too, as the one turn of a conversation: models that were
taught to converse say little, or nothing, to a text without their chat template.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import structlog

from ml import tracing
from ml.errors import ConfigurationError, GenerationFailed, UpstreamError
from ml.json_text import JsonObject
from ml.upstream.connection import Connection
from ml.upstream.failures import FAILURES, BrokenAnswer, Refused, as_service_error, lacks_chat
from ml.upstream.parameters import Api, GenerationParameters
from ml.upstream.retries import with_retries
from ml.upstream.retry_parameters import RetryParameters

__all__ = ["TextGenerationServer"]

log = structlog.get_logger(__name__)

#: TGI answers here as at /generate and, where a stream is asked for, at /generate_stream.
_GENERATE, _CHAT = "/", "/v1/chat/completions"
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
        self.api = api
        self.model = ""
        self.connection = Connection(
            url,
            connect_seconds=connect_seconds,
            headers=headers or {},
            cookies=cookies or {},
            token=token,
        )
        self._has_chat = api != "tgi"
        self._retries = retries or RetryParameters()

    async def open(self) -> None:
        """Connect and look at the server.

        Raises `UpstreamError` or another `ServiceError` if it cannot be used now, and
        `ConfigurationError` if it speaks neither API.
        """
        self.connection.open()
        try:
            await self._look()
        except BaseException as error:
            await self.close()
            if isinstance(error, FAILURES):
                raise as_service_error(error) from error
            raise

    async def close(self) -> None:
        """Close all connections."""
        await self.connection.close()

    async def check(self) -> None:
        """Raise `UpstreamError` unless the server says that it is healthy."""
        try:
            await self.connection.get("/health")
        except Refused as error:
            raise UpstreamError(
                f"The model server says that it is not healthy ({error.status})."
            ) from error
        except BrokenAnswer:
            pass  # it may say so in words
        except FAILURES as error:
            raise as_service_error(error) from error

    async def generate(self, text: str, parameters: GenerationParameters) -> str:
        """Return the server's answer to a text."""

        async def ask() -> str:
            chat = self._chat(text, parameters)
            if chat is not None:
                try:
                    return _content(await self.connection.post(_CHAT, chat), "message")
                except Refused as error:
                    self._require_chat(error)
            body = _generate(text, parameters)
            return str((await self.connection.post(_GENERATE, body)).get("generated_text") or "")

        with tracing.span("generate", "client", {"server.address": self.connection.url}):
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
        chat = self._chat(text, parameters)
        if chat is not None:
            events = self.connection.stream(_CHAT, chat | {"stream": True})
            try:
                async with contextlib.aclosing(events):
                    async for event in events:
                        if content := _content(event, "delta"):
                            yield content
            except Refused as error:
                self._require_chat(error)
            else:
                return
        body = _generate(text, parameters, stream=True)
        events = self.connection.stream(_GENERATE, body)
        async with contextlib.aclosing(events):
            async for event in events:
                token = event.get("token")
                if isinstance(token, dict) and token.get("text") and not token.get("special"):
                    yield str(token["text"])

    def _chat(self, text: str, parameters: GenerationParameters) -> JsonObject | None:
        """Return what the chat route is asked; None where the text is to be sent as it is."""
        named = {_OPENAI_NAMES.get(name, name): value for name, value in parameters.given().items()}
        if not self._has_chat or (self.api == "tgi" and named.keys() - _OPENAI_PARAMETERS):
            return None
        # TGI takes any other name than its own for an adapter's.
        model = "tgi" if self.api == "tgi" else self.model
        messages = [{"role": "user", "content": text}]
        return {"model": model, **named, "messages": messages, "stream": False}

    def _require_chat(self, error: Refused) -> None:
        """Raise a refusal again, unless it is for want of chat; from then on none is tried."""
        if self.api != "tgi" or not lacks_chat(error):
            raise error
        self._has_chat = False
        log.info("upstream_has_no_chat", model=self.model)

    def _empty_answer(self) -> GenerationFailed:
        text = "The model server answered with an empty text."
        if self.api == "tgi":
            text += (
                " A model for conversations does so without its chat template, which /generate "
                "does not use: see `api` of this service, and leave out parameters that only "
                "/generate has."
            )
        return GenerationFailed(text)

    async def _look(self) -> None:
        if self.api != "openai":
            try:
                self.model = _model(await self.connection.get("/info"))
            except Refused as error:
                if self.api == "tgi" or error.status != 404:
                    raise
            except BrokenAnswer:
                raise self._no_text_generation() from None
            else:
                self.api = "tgi"
                await self.check()
                return
        try:
            self.model = _model(await self.connection.get("/v1/models"))
        except Refused as error:
            if error.status == 404:
                raise self._no_text_generation() from None
            raise
        except BrokenAnswer:
            raise self._no_text_generation() from None
        self.api = "openai"

    def _no_text_generation(self) -> ConfigurationError:
        return ConfigurationError(
            f"{self.connection.url} answers neither /info as TGI does nor /v1/models as OpenAI "
            "does: is this the address of a text generation server?"
        )


def _generate(text: str, parameters: GenerationParameters, *, stream: bool = False) -> JsonObject:
    """Return what TGI is asked for a text as it is."""
    given = parameters.given() | ({"details": True} if stream else {})
    return {"inputs": text, "parameters": given, "stream": stream}


def _content(answer: JsonObject, place: str) -> str:
    """Return the text of a chat answer, or of one of its events; some events have no choice."""
    choices: Any = answer.get("choices")
    try:
        return str(choices[0][place].get("content") or "") if choices else ""
    except (LookupError, TypeError, AttributeError):
        raise BrokenAnswer("The model server answered in another form than OpenAI's.") from None


def _model(document: JsonObject) -> str:
    """Return the name of the model that TGI's or OpenAI's description names."""
    listed: Any = document.get("data")
    try:
        return str(document.get("model_id") or listed[0]["id"])
    except (LookupError, TypeError):
        raise BrokenAnswer("it names no model") from None
