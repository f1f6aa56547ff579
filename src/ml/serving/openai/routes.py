"""The addresses of OpenAI's API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quart_schema import document_response

from ml.json_text import JsonObject
from ml.models.local_models import NAMES_OF_ANY_MODEL
from ml.serving.endpoint import add_endpoint
from ml.serving.openai.answers import (
    ChatCompletion,
    DetokenizedText,
    EmbeddingList,
    Model,
    ModelList,
    ResponseObject,
    TextCompletion,
    Tokenized,
)
from ml.serving.openai.embeddings import EmbeddingRequest, Embeddings
from ml.serving.openai.endpoints import ChatCompletions, Completions
from ml.serving.openai.errors import error_reply
from ml.serving.openai.replies import model_list, model_object
from ml.serving.openai.requests import ChatCompletionRequest, CompletionRequest
from ml.serving.openai.response_request import ResponseRequest
from ml.serving.openai.responses import Responses
from ml.serving.openai.tokens import (
    Detokenize,
    DetokenizeRequest,
    Tokenize,
    TokenizeRequest,
)

if TYPE_CHECKING:
    from ml.generation.language_model import LanguageModel
    from ml.models.text_embedder import TextEmbedder
    from ml.serving.app import ServiceApp

__all__ = ["OPENAI_PATHS", "add_openai"]

#: Below this, failures have OpenAI's form.
OPENAI_PATHS = "/v1/"


def add_openai(
    app: ServiceApp, language_model: LanguageModel, embedder: TextEmbedder | None = None
) -> None:
    """Register them on an application."""
    in_thread = app.workflow.in_thread
    for path in (OPENAI_PATHS, "/tokenize", "/detokenize"):
        app.error_forms[path] = error_reply
    add_endpoint(
        app,
        "/v1/chat/completions",
        ChatCompletions(language_model, in_thread),
        ChatCompletionRequest,
        "Go on with a conversation; with `stream`, as server-sent events.",
        ChatCompletion,
    )
    add_endpoint(
        app,
        "/v1/completions",
        Completions(language_model, in_thread),
        CompletionRequest,
        "Go on with a text; with `stream`, as server-sent events.",
        TextCompletion,
    )
    add_endpoint(
        app,
        "/v1/responses",
        Responses(language_model, in_thread),
        ResponseRequest,
        "Go on with a conversation of items; with `stream`, as events. Nothing is stored.",
        ResponseObject,
    )
    add_endpoint(
        app,
        "/v1/embeddings",
        Embeddings(embedder, in_thread),
        EmbeddingRequest,
        "Make a vector of each text, if an embedding model is configured.",
        EmbeddingList,
    )
    add_endpoint(
        app,
        "/tokenize",
        Tokenize(language_model, in_thread),
        TokenizeRequest,
        "Return the tokens of a text or of a conversation.",
        Tokenized,
    )
    add_endpoint(
        app,
        "/detokenize",
        Detokenize(language_model, in_thread),
        DetokenizeRequest,
        "Return the text of tokens.",
        DetokenizedText,
    )
    _add_models(app, language_model, embedder)


def _add_models(
    app: ServiceApp, language_model: LanguageModel, embedder: TextEmbedder | None
) -> None:
    @app.get("/v1/models")
    @document_response(ModelList)
    async def models() -> JsonObject:
        """Return the names that `model` may have, the embedding model's last."""
        embedders = [] if embedder is None else [embedder.served_name]
        return model_list([*language_model.model_names(), *embedders])

    @app.get("/v1/models/<path:name>")
    @document_response(Model)
    async def model(name: str) -> JsonObject:
        """Return one model, or 404; names that stand for the service's own are found, too."""
        if name not in NAMES_OF_ANY_MODEL and not (embedder and name == embedder.served_name):
            await app.workflow.in_thread(language_model.require_model, name)
        return model_object(name)
