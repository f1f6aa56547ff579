"""Answers text with a local language model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from ml.errors import ConfigurationError, InternalError, InvalidInput, describe_faults
from ml.generation.request import Finished, SamplingParameters
from ml.models.causal_lm import CausalLM, load_causal_lm
from ml.models.embedded_llm import EMBEDDED_LLM
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow
from ml.workflows.inference.llm_request import LLMRequest

if TYPE_CHECKING:
    from ml.generation.engine import Engine

__all__ = ["LLMInferenceWorkflow", "Prompt"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request as the model reads it: token ids, and how to go on from them."""

    ids: list[int]
    sampling: SamplingParameters


class LLMInferenceWorkflow(BaseInferenceWorkflow):
    """Runs a causal language model of transformers; concurrent requests share it token by token.

    `model` is a hub name, a folder, or "SmolLM2-135M-Instruct" for the embedded one; `adapter` a
    LoRA of peft on top. `slots` requests generate at once, each with up to `max_length` tokens of
    prompt and answer; `max_new_tokens`, `temperature`, `top_p`, `top_k`, `seed` and `stop` hold
    for requests that do not give their own. Text in, text out, on-chain as `(string)`.

    A subclass that answers with an object overrides `do_postprocessing(input_data, text)`.
    """

    input_model = LLMRequest

    def __init__(
        self,
        model: str = EMBEDDED_LLM,
        *,
        revision: str | None = None,
        adapter: str | None = None,
        dtype: str = "auto",
        device: str | None = None,
        system_prompt: str | None = None,
        slots: int = 16,
        max_length: int = 2048,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int | None = None,
        stop: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.model_name = model
        self.system_prompt = system_prompt
        self._load = partial(
            load_causal_lm, model, revision=revision, adapter=adapter, dtype=dtype, device=device
        )
        self._slots = _at_least("slots", slots, 1)
        self._max_length = _at_least("max_length", max_length, 16)
        self._defaults = _checked_defaults(
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            seed=seed,
            stop=stop,
        )
        self._engine: Engine | None = None

    @property
    def language_model(self) -> CausalLM:
        """The loaded model and tokenizer; there once the workflow is set up."""
        return self._language_model

    def do_setup(self) -> None:
        """Load the model and start the engine."""
        loaded = self._load()
        from ml.generation.engine import Engine

        self._language_model = loaded
        self._max_length = min(self._max_length, loaded.max_length)
        self._engine = Engine(
            loaded.model,
            end_tokens=loaded.end_tokens,
            slots=self._slots,
            max_length=self._max_length,
        )

    def do_close(self) -> None:
        """Stop the engine; what still generates ends."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def do_preprocessing(self, input_data: LLMRequest | str | dict[str, Any]) -> Prompt:
        """Return the prompt of a request, rendered with the model's own chat template.

        Raises `InvalidInput` with the numbers when it leaves no room for an answer.
        """
        if not isinstance(input_data, LLMRequest):
            request: LLMRequest = self.decode_offchain(input_data)
        else:
            request = input_data
        tokenizer = self._language_model.tokenizer
        messages = request.messages(self.system_prompt)
        if tokenizer.chat_template is None:
            ids = tokenizer("\n".join(message["content"] for message in messages)).input_ids
        else:
            ids = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=False
            )
        sampling = self._sampling(request)
        if len(ids) >= self._max_length:
            raise InvalidInput(
                f"data.text: the prompt has {len(ids)} tokens with its history; prompt and answer "
                f"together may have {self._max_length}"
            )
        return Prompt(ids, sampling)

    async def do_run_model(self, preprocessed_data: Prompt) -> str:
        """Return the whole answer."""
        return "".join([piece async for piece in self.do_stream(preprocessed_data)])

    async def do_stream(self, preprocessed_data: Prompt) -> AsyncIterator[str]:
        """Yield the answer as it is made; leaving the iterator frees the model at once."""
        from ml.generation.text import TextStream

        if self._engine is None:
            raise InternalError("The engine is stopped.")
        text = TextStream(self._language_model.tokenizer, preprocessed_data.sampling.stop)
        events = self._engine.generate(preprocessed_data.ids, preprocessed_data.sampling)
        try:
            async for event in events:
                if isinstance(event, Finished):
                    if event.error is not None:
                        raise event.error
                    break
                if piece := text.feed(event.id):
                    yield piece
                if text.stopped:
                    return
            if piece := text.rest():
                yield piece
        finally:
            await events.aclose()  # type: ignore[attr-defined]

    def supports_model(self, model_id: str) -> bool:
        """Return whether an id names this model."""
        return model_id.removeprefix("huggingface/") == self.model_name

    def compute_capability(self) -> dict[str, Any]:
        """Return this workflow's entry in the `/service-resources` document."""
        return {
            "id": "ml",
            "type": "hf_client",
            "task": ["text_generation"],
            "models": [self.model_name],
            "inference_engine": "transformers",
        }

    def _sampling(self, request: LLMRequest) -> SamplingParameters:
        given = {
            name: value
            for name in ("temperature", "top_p", "top_k", "seed")
            if (value := getattr(request, name)) is not None
        }
        most = self._defaults.max_new_tokens
        wanted = request.max_new_tokens or most
        if wanted > self._max_length:
            raise InvalidInput(
                f"data.max_new_tokens: {wanted} is over the {self._max_length} of this service"
            )
        stop = self._defaults.stop if request.stop is None else tuple(request.stop)
        defaults = {
            name: getattr(self._defaults, name)
            for name in ("temperature", "top_p", "top_k", "seed")
        }
        return SamplingParameters(max_new_tokens=wanted, stop=stop, **{**defaults, **given})


def _checked_defaults(**values: Any) -> SamplingParameters:
    try:
        checked = LLMRequest(text="-", **values)
    except ValidationError as error:
        raise ConfigurationError(describe_faults(error)) from None
    return SamplingParameters(**{**values, "stop": tuple(checked.stop or ())})


def _at_least(name: str, value: Any, least: int) -> int:
    try:
        number = TypeAdapter(int).validate_python(value, strict=True)
    except ValidationError:
        number = least - 1
    if number < least:
        raise ConfigurationError(f"{name}: give an integer of at least {least}")
    return number
