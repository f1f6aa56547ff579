"""Answers text with a text generation server that runs elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from pydantic import Field, SecretStr

from ml.addresses import WebAddress
from ml.errors import InvalidInput
from ml.json_text import JsonObject
from ml.upstream.parameters import Api, GenerationParameters
from ml.upstream.retry_parameters import RetryParameters
from ml.workflows.arguments import Arguments, Positive, checked_arguments
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow
from ml.workflows.inference.text_input import TextInput

__all__ = ["TGIClientArguments", "TGIClientInferenceWorkflow", "TGIRequest"]


class TGIRequest(TextInput, GenerationParameters):
    """A text to go on with. Parameters that are not given are the service's own."""


class TGIClientArguments(GenerationParameters, Arguments):
    """Where a server is and how it is asked, and its generation parameters."""

    server_url: WebAddress = Field(description="The server's address")
    connection_timeout: Positive = Field(
        default=30.0, description="Seconds that a connection may take"
    )
    headers: dict[str, str] | None = Field(default=None, description="Sent with each request")
    cookies: dict[str, str] | None = Field(default=None, description="Likewise")
    retry_params: RetryParameters | None = Field(
        default=None, description="When a request is sent again"
    )
    api: Api | None = Field(
        default=None,
        description="Found out if it is not given: OpenAI's where the server has no /info",
    )
    token: SecretStr | None = Field(default=None, description="Sent as a bearer token")


class TGIClientInferenceWorkflow(BaseInferenceWorkflow):
    """Passes texts to a server of Text Generation Inference, or of OpenAI's API.

    Its arguments are those of `TGIClientArguments`; with the generation parameters among them,
    requests are answered that do not give their own. `max_new_tokens` is also the most that a
    request may ask for.
    """

    extra = "tgi"
    about = "Hands a text to a language model on another server, and brings back what it answers."
    input_model = TGIRequest

    def __init__(
        self,
        server_url: str,
        connection_timeout: float = 30,
        headers: dict[str, str] | None = None,
        cookies: dict[str, str] | None = None,
        **arguments: object,
    ) -> None:
        super().__init__()
        from ml.upstream.text_generation_server import TextGenerationServer

        self.arguments = checked_arguments(
            TGIClientArguments,
            server_url=server_url,
            connection_timeout=connection_timeout,
            headers=headers,
            cookies=cookies,
            **arguments,
        )
        self._own_parameters = self.arguments.given()
        token = self.arguments.token
        self.server = TextGenerationServer(
            self.arguments.server_url,
            connect_seconds=self.arguments.connection_timeout,
            headers=self.arguments.headers,
            cookies=self.arguments.cookies,
            token=None if token is None else token.get_secret_value(),
            api=self.arguments.api,
            retries=self.arguments.retry_params,
        )

    @property
    def has_quick_hooks(self) -> bool:
        """Whether the hooks are these: they only look at parameters."""
        return type(self) is TGIClientInferenceWorkflow

    async def do_setup(self) -> None:
        """Connect, and look at the server."""
        await self.server.open()

    async def do_check(self) -> None:
        """Raise `UpstreamError` unless the server is healthy."""
        await self.server.check()

    async def do_close(self) -> None:
        """Close the connections."""
        await self.server.close()

    def do_preprocessing(self, input_data: TGIRequest | str | JsonObject) -> TGIRequest:
        """Return the request with the service's own parameters where it gives none.

        Raises `InvalidInput` if it asks for more tokens than the service allows.
        """
        if not isinstance(input_data, TGIRequest):
            request: TGIRequest = self.decode_offchain(input_data)
        else:
            request = input_data
        most = self.arguments.max_new_tokens
        if most is not None and (request.max_new_tokens or 0) > most:
            raise InvalidInput(
                f"data.max_new_tokens: {request.max_new_tokens} is over the {most} of this service"
            )
        if not self._own_parameters:
            return request
        return request.model_copy(update=self._own_parameters | request.given())

    async def do_run_model(self, preprocessed_data: TGIRequest) -> str:
        """Return the server's answer."""
        return await self.server.generate(preprocessed_data.text, preprocessed_data)

    async def do_stream(self, preprocessed_data: TGIRequest) -> AsyncIterator[str]:
        """Yield the server's answer as it comes; leaving the iterator ends its request."""
        pieces = self.server.stream(preprocessed_data.text, preprocessed_data)
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                yield piece

    def example_input(self) -> JsonObject:
        """Return a text, which any language model goes on with."""
        return {"text": "The capital of France is"}

    def supports_model(self, model_id: str) -> bool:
        """Return whether an id names the server's model."""
        return model_id.removeprefix("huggingface/") == self.server.model != ""

    def compute_capability(self) -> JsonObject:
        """Return this workflow's entry in the `/service-resources` document."""
        return {
            "id": "ml",
            "type": "tgi_client",
            "task": ["text_generation"],
            "models": [self.server.model] if self.server.model else [],
            "inference_engine": "tgi",
        }
