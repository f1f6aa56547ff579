"""`/v1/embeddings`: texts as vectors."""

from __future__ import annotations

import base64
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from ml.errors import InvalidInput, NotFound, ServiceError
from ml.generation.request import ModelNotFound
from ml.generation.sampling_options import NUMERIC
from ml.json_text import JsonObject
from ml.models.local_models import NAMES_OF_ANY_MODEL
from ml.models.text_embedder import TextEmbedder
from ml.serving.client_request import ClientRequest
from ml.serving.endpoint import Headers, InThread
from ml.serving.openai.errors import error_reply
from ml.serving.openai.requests import texts_or_ids
from ml.serving.reply import Reply, json_reply

__all__ = ["EmbeddingRequest", "Embeddings"]

_MOST_INPUTS = 2048


class EmbeddingRequest(ClientRequest):
    """The body of `POST /v1/embeddings`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"input": ["A first text", "A second text"]}]}
    )

    neutral: ClassVar = {"truncate_prompt_tokens": (), "add_special_tokens": (True,)}
    ignored: ClassVar = frozenset({"priority", "user"})

    model: str | None = Field(default=None, description="The embedding model's name")
    input: Annotated[list[str | list[int]], BeforeValidator(texts_or_ids)] = Field(
        min_length=1,
        max_length=_MOST_INPUTS,
        description="A text, its token ids, or a list of either",
    )
    encoding_format: Literal["float", "base64"] | None = Field(
        default=None, description="base64 of 32-bit floats, the lowest byte first"
    )
    dimensions: Annotated[int, NUMERIC] | None = Field(
        default=None, description="How many the model has, no others"
    )


class Embeddings:
    """Makes a vector of each text, if the service has a model for that."""

    def __init__(self, embedder: TextEmbedder | None, in_thread: InThread) -> None:
        self._embedder, self._in_thread = embedder, in_thread

    def refusal(self, error: ServiceError) -> Reply:
        """Return a failure as OpenAI's clients know it."""
        return error_reply(error, "input")

    async def answer(self, body: bytes, headers: Headers) -> Reply:
        """Return the vectors in the order of the texts."""
        if self._embedder is None:
            raise NotFound(
                "This service has no embedding model; the LLM service has one with "
                'FLASK_LLM_WORKFLOW_KW_ARGS={"embedding_model": "…"}.'
            )
        request = EmbeddingRequest.read(body)
        return json_reply(await self._in_thread(_embedded, self._embedder, request))


def _embedded(embedder: TextEmbedder, request: EmbeddingRequest) -> JsonObject:
    name = embedder.served_name
    if request.model not in (None, name, *NAMES_OF_ANY_MODEL):
        raise ModelNotFound(f"There is no embedding model {request.model!r} here, but {name}.")
    if request.dimensions not in (None, embedder.width):
        raise InvalidInput(f"dimensions: this model's vectors have {embedder.width}")
    texts = [embedder.tokens(text, f"input.{n}") for n, text in enumerate(request.input)]
    vectors = embedder.embed(texts)
    in_base64 = request.encoding_format == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
            if in_base64
            else vector.tolist(),
        }
        for index, vector in enumerate(vectors)
    ]
    read = sum(map(len, texts))
    usage = {"prompt_tokens": read, "total_tokens": read}
    return {"object": "list", "data": data, "model": name, "usage": usage}
