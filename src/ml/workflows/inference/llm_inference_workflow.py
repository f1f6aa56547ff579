"""Answers text with a local language model."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from pydantic import Field

from ml.generation.arguments import LanguageModelArguments
from ml.generation.language_model import LanguageModel
from ml.generation.request import Prompt
from ml.json_text import JsonObject
from ml.models.embedded_llm import EMBEDDED_LLM
from ml.models.text_embedder import TextEmbedder
from ml.workflows.arguments import checked_arguments
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow
from ml.workflows.inference.llm_answer import answer_in_form, has_a_form
from ml.workflows.inference.llm_request import LLMRequest

__all__ = ["LLMArguments", "LLMInferenceWorkflow"]


class LLMArguments(LanguageModelArguments):
    """The language model's arguments, and what else the workflow has."""

    embedding_model: str | None = Field(
        default=None,
        min_length=1,
        description="Makes vectors of texts, for /v1/embeddings: a hub name or a folder, as "
        "safetensors or OpenVINO's",
    )


class LLMInferenceWorkflow(BaseInferenceWorkflow):
    """Answers an `LLMRequest` with a language model: text in, text out, on-chain as `(string)`.

    With tools or a form, the answer is an object, on-chain its JSON.

    Its arguments are those of `LLMArguments`. A subclass that answers with an object
    overrides `do_postprocessing(input_data, text)`.
    """

    extra = "llm"
    about = "Answers a text with a language model that runs here, word by word."
    input_model = LLMRequest

    def __init__(self, model: str = EMBEDDED_LLM, **arguments: object) -> None:
        super().__init__()
        checked = checked_arguments(LLMArguments, model=model, **arguments)
        #: What answers. Concurrent requests share it token by token.
        self.language_model = LanguageModel(checked)
        name = checked.embedding_model
        self._embedder = None if name is None else TextEmbedder(name)

    @property
    def text_generation(self) -> LanguageModel:
        """The language model, which OpenAI's and TGI's clients ask too."""
        return self.language_model

    @property
    def text_embedding(self) -> TextEmbedder | None:
        """What makes vectors of texts, with `embedding_model`."""
        return self._embedder

    def do_setup(self) -> None:
        """Load the models and start the engine."""
        if self._embedder is not None:
            self._embedder.load()
        self.language_model.load()

    def do_close(self) -> None:
        """Stop the engine; what still generates ends."""
        self.language_model.close()

    def do_preprocessing(self, input_data: LLMRequest | str | JsonObject) -> Prompt:
        """Return the prompt of a request, rendered with the model's own chat template.

        Raises `PromptTooLong` when it leaves no room for an answer.
        """
        if not isinstance(input_data, LLMRequest):
            request: LLMRequest = self.decode_offchain(input_data)
        else:
            request = input_data
        return self.language_model.chat(
            request.messages(), request, model=request.model, tools=request.tool_wish()
        )

    async def do_run_model(self, preprocessed_data: Prompt) -> object:
        """Return the whole answer: a text, or an object where tools or a form are asked for."""
        if has_a_form(preprocessed_data):
            pieces = self.language_model.generate(preprocessed_data)
            return await answer_in_form(pieces, preprocessed_data)
        return "".join([piece async for piece in self.do_stream(preprocessed_data)])

    async def do_stream(self, preprocessed_data: Prompt) -> AsyncIterator[str]:
        """Yield the answer as it is made; leaving the iterator frees the model at once."""
        answer = self.language_model.generate(preprocessed_data)
        async with contextlib.aclosing(answer) as pieces:
            async for piece in pieces:
                if piece.text:
                    yield piece.text

    def example_input(self) -> JsonObject:
        """Return a text, which any language model answers."""
        return {"text": "What is the capital of France?"}

    def supports_model(self, model_id: str) -> bool:
        """Return whether an id names this model."""
        return model_id.removeprefix("huggingface/") == self.language_model.arguments.model

    def compute_capability(self) -> JsonObject:
        """Return this workflow's entry in the `/service-resources` document."""
        return {
            "id": "ml",
            "type": "hf_client",
            "task": ["text_generation"],
            "models": [self.language_model.arguments.model],
            "inference_engine": self.language_model.chosen.name,
        }

    def chosen(self) -> JsonObject:
        """Return what runs the model, and why."""
        chosen = self.language_model.chosen
        return {"engine": {"name": chosen.name, "reason": chosen.reason}}
