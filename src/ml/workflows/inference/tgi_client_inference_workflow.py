"""Answers text with a text generation server that runs elsewhere."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ml.errors import ConfigurationError, InvalidInput, fault_lines
from ml.upstream.parameters import GenerationParameters
from ml.workflows.addresses import checked_web_address
from ml.workflows.arguments import checked_arguments
from ml.workflows.faults import Faults
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow
from ml.workflows.inference.text_input import TextInput

if TYPE_CHECKING:
    from ml.upstream.retries import RetryParameters
    from ml.upstream.text_generation_server import Api

__all__ = ["TGIClientInferenceWorkflow", "TGIRequest"]


class TGIRequest(TextInput, GenerationParameters):
    """A text to go on with. Parameters that are not given are the service's own."""


class TGIClientInferenceWorkflow(BaseInferenceWorkflow):
    """Passes texts to a server of Text Generation Inference, or of OpenAI's API.

    `server_url` is its address and `connection_timeout` the seconds a connection may take;
    `headers` and `cookies` go along with each request, as does `token` as a bearer. `retry_params`
    are those of `RetryParameters`. `api`, "tgi" or "openai", is found out if it is not given:
    OpenAI's is spoken where the server has no `/info`. All other keyword arguments are TGI's
    generation parameters, for requests that do not give their own; `max_new_tokens` is also the
    most that a request may ask for.
    """

    extra = "tgi"
    input_model = TGIRequest

    def __init__(
        self,
        server_url: str,
        connection_timeout: float = 30,
        headers: dict[str, str] | None = None,
        cookies: dict[str, str] | None = None,
        *,
        retry_params: dict[str, Any] | None = None,
        api: Api | None = None,
        token: str | None = None,
        **inference_params: Any,
    ) -> None:
        super().__init__()
        from ml.upstream.text_generation_server import TextGenerationServer

        faults = Faults()
        self.parameters = faults.of(
            partial(checked_arguments, GenerationParameters, **inference_params)
        )
        make_server = partial(
            TextGenerationServer,
            faults.of(checked_web_address, "server_url", server_url),
            connect_seconds=faults.of(_checked_seconds, connection_timeout),
            headers=faults.of(_checked_texts, "headers", headers),
            cookies=faults.of(_checked_texts, "cookies", cookies),
            token=token,
            api=faults.of(_checked_api, api),
            retries=faults.of(_checked_retries, retry_params),
        )
        faults.tell()
        self.server = make_server()

    async def do_setup(self) -> None:
        """Connect, and look at the server."""
        await self.server.open()

    async def do_check(self) -> None:
        """Raise `UpstreamError` unless the server is healthy."""
        await self.server.check()

    async def do_close(self) -> None:
        """Close the connections."""
        await self.server.close()

    def do_preprocessing(self, input_data: TGIRequest | str | dict[str, Any]) -> TGIRequest:
        """Return the request with the service's own parameters where it gives none.

        Raises `InvalidInput` if it asks for more tokens than the service allows.
        """
        if not isinstance(input_data, TGIRequest):
            request: TGIRequest = self.decode_offchain(input_data)
        else:
            request = input_data
        most = self.parameters.max_new_tokens
        if most is not None and (request.max_new_tokens or 0) > most:
            raise InvalidInput(
                f"data.max_new_tokens: {request.max_new_tokens} is over the {most} of this service"
            )
        return TGIRequest(text=request.text, **(self.parameters.given() | request.given()))

    async def do_run_model(self, preprocessed_data: TGIRequest) -> str:
        """Return the server's answer."""
        return await self.server.generate(preprocessed_data.text, preprocessed_data)

    async def do_stream(self, preprocessed_data: TGIRequest) -> AsyncIterator[str]:
        """Yield the server's answer as it comes; leaving the iterator ends its request."""
        pieces = self.server.stream(preprocessed_data.text, preprocessed_data)
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                yield piece

    def supports_model(self, model_id: str) -> bool:
        """Return whether an id names the server's model."""
        return model_id.removeprefix("huggingface/") == self.server.model != ""

    def compute_capability(self) -> dict[str, Any]:
        """Return this workflow's entry in the `/service-resources` document."""
        return {
            "id": "ml",
            "type": "tgi_client",
            "task": ["text_generation"],
            "models": [self.server.model] if self.server.model else [],
            "inference_engine": "tgi",
        }


def _checked_seconds(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:
        raise ConfigurationError("connection_timeout: give a number of seconds over 0")
    return float(value)


def _checked_texts(name: str, value: Any) -> dict[str, str]:
    value = value or {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise ConfigurationError(f"{name}: give a JSON object whose values are texts")
    return value


def _checked_api(api: Any) -> Api | None:
    if api not in (None, "tgi", "openai"):
        raise ConfigurationError(f'api: {api!r} is none of "tgi", "openai"')
    checked: Api | None = api
    return checked


def _checked_retries(values: Any) -> RetryParameters:
    from ml.upstream.retries import RetryParameters

    try:
        return RetryParameters.model_validate(values or {})
    except ValidationError as error:
        raise ConfigurationError("\n".join(fault_lines(error, under="retry_params"))) from None
