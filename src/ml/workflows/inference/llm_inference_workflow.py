"""Answers text with a local language model."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError
from pydantic import TypeAdapter, ValidationError

from ml.errors import ConfigurationError, InvalidInput, NotReady, describe_faults
from ml.generation.request import (
    FinishReason,
    ModelNotFound,
    Observer,
    Piece,
    PromptTooLong,
    SamplingParameters,
)
from ml.models.causal_lm import CausalLM, load_causal_lm, require_known_options
from ml.models.control_tokens import Asked, ControlTokens
from ml.models.embedded_llm import EMBEDDED_LLM
from ml.workflows.faults import Faults
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow
from ml.workflows.inference.llm_request import LLMRequest

if TYPE_CHECKING:
    from ml.generation.adapters import Adapters
    from ml.generation.transformers_engine import TransformersEngine

__all__ = ["LLMInferenceWorkflow", "Prompt"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request as the model reads it: token ids, and how to go on from them."""

    ids: list[int]
    sampling: SamplingParameters
    adapter: str | None = None
    keeps_stop: bool = False


class LLMInferenceWorkflow(BaseInferenceWorkflow):
    """Runs a causal language model of transformers; concurrent requests share it token by token.

    `model` is a hub name, a folder, or "SmolLM2-135M-Instruct" for the embedded one; `adapter` a
    LoRA of peft merged into it; `quantization` "int8" makes up to 8 concurrent answers faster on
    a CPU. Requests may name one of the LoRA adapters of peft in the sub-folders of
    `adapters_path`; `max_adapters` of up to `max_adapter_rank` are kept loaded.

    `slots` requests generate at once, each with up to `max_length` tokens of prompt and answer;
    `reuse_prefixes` reads the common beginning of prompts once;
    `max_new_tokens`, `temperature`, `top_p`, `top_k`, `seed` and `stop` hold for requests that do
    not give their own. Text in, text out, on-chain as `(string)`.

    A subclass that answers with an object overrides `do_postprocessing(input_data, text)`.
    """

    extra = "llm"
    input_model = LLMRequest

    def __init__(
        self,
        model: str = EMBEDDED_LLM,
        *,
        revision: str | None = None,
        adapter: str | None = None,
        dtype: str = "auto",
        device: str | None = None,
        quantization: str | None = None,
        adapters_path: str | None = None,
        max_adapters: int = 8,
        max_adapter_rank: int = 64,
        system_prompt: str | None = None,
        slots: int = 16,
        max_length: int = 2048,
        reuse_prefixes: bool = True,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        seed: int | None = None,
        stop: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.model_name = model
        self.system_prompt = system_prompt
        self._load = partial(
            load_causal_lm,
            model,
            revision=revision,
            adapter=adapter,
            dtype=dtype,
            device=device,
            quantization=quantization,
        )
        faults = Faults()
        self._slots = faults.of(_at_least, "slots", slots, 1)
        self.max_length = faults.of(_at_least, "max_length", max_length, 16)
        self._reuse_prefixes = reuse_prefixes
        self._defaults = faults.of(
            _checked_defaults,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            seed=seed,
            stop=stop,
        )
        self._adapters_path = adapters_path
        self._max_adapters = faults.of(_at_least, "max_adapters", max_adapters, 1)
        self._max_adapter_rank = faults.of(_at_least, "max_adapter_rank", max_adapter_rank, 1)
        faults.of(require_known_options, dtype=dtype, quantization=quantization, device=device)
        faults.tell()
        #: The adapters that requests may name; there once the workflow is set up.
        self.adapters: Adapters | None = None
        self._engine: TransformersEngine | None = None
        #: Hears of what the engine does; set it before `setup()`.
        self.observer = Observer()

    @property
    def text_generation(self) -> LLMInferenceWorkflow:
        """This language model."""
        return self

    @property
    def dtype(self) -> str:
        """The type of the loaded weights, such as `torch.bfloat16`."""
        return str(self._language_model.model.dtype)

    @property
    def device_type(self) -> str:
        """Where the loaded model runs, such as `cpu`."""
        return str(self._language_model.model.device.type)

    @property
    def language_model(self) -> CausalLM:
        """The loaded model and tokenizer; there once the workflow is set up."""
        return self._language_model

    def do_setup(self) -> None:
        """Load the model and start the engine."""
        loaded = self._load()
        # It brings torch, which a refusal need not wait for.
        from ml.generation.transformers_engine import TransformersEngine

        self._language_model = loaded
        self._controls = ControlTokens(loaded.tokenizer)
        self.max_length = min(self.max_length, loaded.max_length)
        #: A text of more characters has too many tokens, whichever they are.
        self._longest_text = self.max_length * max(map(len, loaded.tokenizer.get_vocab()))
        if self._adapters_path is not None:
            from ml.generation.adapters import Adapters

            self.adapters = Adapters(
                loaded.model,
                Path(self._adapters_path),
                max_adapters=self._max_adapters,
                max_rank=self._max_adapter_rank,
            )
        self._engine = TransformersEngine(
            loaded.model,
            adapters=self.adapters,
            end_tokens=loaded.end_tokens,
            slots=self._slots,
            max_length=self.max_length,
            observer=self.observer,
            reuse_prefixes=self._reuse_prefixes,
        )
        try:
            asyncio.run(self._warm_up())
        except Exception:
            self.do_close()
            raise

    async def _warm_up(self) -> None:
        """Answer once: the first steps are slow, and a model that cannot answer is not ready."""
        prompt = self.chat([{"role": "user", "content": "Hello"}], {"max_new_tokens": 2})
        async for _ in self.generate(prompt):
            pass

    def do_close(self) -> None:
        """Stop the engine; what still generates ends."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def do_preprocessing(self, input_data: LLMRequest | str | dict[str, Any]) -> Prompt:
        """Return the prompt of a request, rendered with the model's own chat template.

        Raises `PromptTooLong` when it leaves no room for an answer.
        """
        if not isinstance(input_data, LLMRequest):
            request: LLMRequest = self.decode_offchain(input_data)
        else:
            request = input_data
        return self.chat(request.messages(), request.sampling(), model=request.model)

    async def do_run_model(self, preprocessed_data: Prompt) -> str:
        """Return the whole answer."""
        return "".join([piece async for piece in self.do_stream(preprocessed_data)])

    async def do_stream(self, preprocessed_data: Prompt) -> AsyncIterator[str]:
        """Yield the answer as it is made; leaving the iterator frees the model at once."""
        async with contextlib.aclosing(self.generate(preprocessed_data)) as pieces:
            async for piece in pieces:
                if piece.text:
                    yield piece.text

    # --- what the protocols of language models ask for ----------------------------------------

    @property
    def served_name(self) -> str:
        """The model's name for clients; of a folder, they learn its last part."""
        return Path(self.model_name).name if Path(self.model_name).is_dir() else self.model_name

    def model_names(self) -> list[str]:
        """Return the names that a request may give as its model: its own and its adapters'."""
        adapters = self.adapters.available() if self.adapters is not None else []
        return [self.served_name, *(adapter.name for adapter in adapters)]

    def require_model(self, name: str) -> None:
        """Raise `ModelNotFound` unless a request may give this name as its model."""
        if name not in self.model_names():
            names = ", ".join(self.model_names())
            raise ModelNotFound(f"There is no model {name!r} here, but {names}.")

    def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Mapping[str, Any] | None = None,
        *,
        model: str | None = None,
    ) -> Prompt:
        """Return the prompt of a conversation: `{"role": …, "content": …}`, oldest first.

        The service's system prompt is put first if the conversation has none. `sampling` overrides
        fields of `SamplingParameters`; None stands for the service's own. Nothing that a message
        says becomes a control token.
        """
        if self.system_prompt and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": self.system_prompt}, *messages]
        self._require_countable(sum(len(message["content"]) for message in messages))
        controls, tokenizer = self._controls, self._language_model.tokenizer
        if tokenizer.chat_template is None:
            text = "\n".join(message["content"] for message in messages)
            return self._prompt(controls.text_tokenizer(text)(text).input_ids, sampling, model)
        try:
            chat = controls.render([(messages, True)], self._render)
        except TemplateError as error:  # such as roles that a template does not know
            raise InvalidInput(f"the model's chat template refuses this: {error}") from error
        read = controls.tokenizer(chat.aliased)
        return self._prompt(
            read(chat.texts[0], add_special_tokens=False).input_ids, sampling, model
        )

    def _render(self, asked: Sequence[Asked]) -> list[str]:
        apply = self._language_model.tokenizer.apply_chat_template
        return [
            apply(messages, tokenize=False, add_generation_prompt=asking)
            for messages, asking in asked
        ]

    def complete(
        self,
        text: str | list[int],
        sampling: Mapping[str, Any] | None = None,
        *,
        model: str | None = None,
        truncate: int | None = None,
        keeps_stop: bool = False,
    ) -> Prompt:
        """Return the prompt of a text, or of its token ids, that the model shall go on with.

        What names a control token in it is one: whoever gives such a prompt writes all of it.
        `truncate` keeps only so many of its last tokens; with `keeps_stop` a stop string is part
        of the answer.
        """
        if isinstance(text, str):
            if truncate:
                text = text[-self._longest_text :]
            self._require_countable(len(text))
            ids = self._language_model.tokenizer(text).input_ids
        else:
            ids = self._known_tokens(text)
        ids = ids[-truncate:] if truncate else ids
        return self._prompt(ids, sampling, model, keeps_stop=keeps_stop)

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Piece, None]:
        """Yield the answer token by token; the last piece has `finished`.

        Closing the iterator frees the model within a token.
        """
        from ml.generation.text import TextStream, read_text

        if self._engine is None:
            raise NotReady("The model is being unloaded.")
        stops = prompt.sampling.stop
        text = TextStream(self._language_model.tokenizer, stops, keeps_stop=prompt.keeps_stop)
        reason = FinishReason.CANCELLED
        try:
            async with contextlib.AsyncExitStack() as held:
                adapter = None
                if prompt.adapter is not None and self.adapters is not None:
                    adapter = await held.enter_async_context(self.adapters.hold(prompt.adapter))
                steps = self._engine.generate(prompt.ids, prompt.sampling, adapter=adapter)
                pieces = read_text(steps, text, prompt_tokens=len(prompt.ids))
                await held.enter_async_context(contextlib.aclosing(pieces))
                async for piece in pieces:
                    if piece.finished is not None:
                        reason = piece.finished.reason
                    yield piece
        except Exception:
            reason = FinishReason.ERROR
            raise
        finally:
            self.observer.ended(reason)

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

    def _prompt(
        self,
        ids: list[int],
        sampling: Mapping[str, Any] | None,
        model: str | None,
        *,
        keeps_stop: bool = False,
    ) -> Prompt:
        if model is not None:
            self.require_model(model)
        adapter = None if model == self.served_name else model
        parameters = replace(self._defaults, **_without_none(sampling or {}))
        if not ids:
            raise InvalidInput("prompt: the prompt is empty")
        if len(ids) >= self.max_length:
            raise PromptTooLong(str(len(ids)), self.max_length)
        return Prompt(ids, parameters, adapter, keeps_stop)

    def _require_countable(self, characters: int) -> None:
        """Refuse a text before its tokens are made, which take a hundred times its memory."""
        if characters > self._longest_text:
            raise PromptTooLong(f"over {self.max_length}", self.max_length)

    def _known_tokens(self, ids: list[int]) -> list[int]:
        number = self._language_model.model.get_input_embeddings().num_embeddings
        for token_id in ids:
            if not 0 <= token_id < number:
                raise InvalidInput(f"prompt: {token_id} is none of the model's {number} token ids")
        return ids


def _checked_defaults(**values: Any) -> SamplingParameters:
    try:
        checked = LLMRequest(text="-", **values)
    except ValidationError as error:
        raise ConfigurationError(describe_faults(error)) from None
    return replace(SamplingParameters(), **_without_none(checked.sampling()))


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _at_least(name: str, value: Any, least: int) -> int:
    try:
        number = TypeAdapter(int).validate_python(value, strict=True)
    except ValidationError:
        number = least - 1
    if number < least:
        raise ConfigurationError(f"{name}: give an integer of at least {least}")
    return number
