"""A language model: its prompts, its adapters and its names, over an engine that makes tokens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from ml.errors import ConfigurationError, InternalError, InvalidInput, NotReady
from ml.generation.arguments import LanguageModelArguments
from ml.generation.engine_choice import EngineChoice, choose_engine
from ml.generation.prompt_reader import PromptReader
from ml.generation.request import (
    Finished,
    FinishReason,
    ModelNotFound,
    Observer,
    Piece,
    Prompt,
    PromptTooLong,
    SamplingParameters,
    Token,
    Unsupported,
)
from ml.generation.sampling_options import SamplingOptions
from ml.generation.tool_format import ToolUse
from ml.generation.tools import ToolWish
from ml.models.causal_lm import CausalLM, load_causal_lm
from ml.models.openvino_model import OpenVINOModel, load_openvino_model
from ml.models.vllm_model import VLLMModel, load_vllm_model
from ml.tracing import Attributes, begin_span

if TYPE_CHECKING:
    from ml.generation.adapter_leases import AdapterLeases, Lease
    from ml.generation.engine import Engine

__all__ = ["LanguageModel"]

log = structlog.get_logger(__name__)

#: Tokens of prompts that one request may have scored; a model with longer prompts scores one.
_MOST_SCORED = 8192

_AnyModel = CausalLM | OpenVINOModel | VLLMModel


class LanguageModel:
    """Answers conversations and goes on with texts; concurrent requests share it token by token.

    `load()` comes first and `close()` last; both take their time, as `chat` and `complete` may:
    call them in a thread.
    """

    def __init__(self, arguments: LanguageModelArguments) -> None:
        self.arguments = arguments
        #: Tokens that a prompt and its answer may have together; loading may lower it.
        self.max_length = arguments.max_length
        #: The model's name for clients; of a folder, they learn its last part once it is loaded.
        self.served_name = arguments.model
        #: The adapters that requests may name; there once the model is loaded.
        self.adapters: AdapterLeases | None = None
        #: Hears of what the engine does; set it before `load()`.
        self.observer = Observer()
        self._defaults = arguments.over(SamplingParameters())
        self._engine: Engine | None = None

    @cached_property
    def chosen(self) -> EngineChoice:
        """The engine that runs the model."""
        return choose_engine(self.arguments)

    @property
    def loaded(self) -> _AnyModel:
        """The model and its tokenizer; there once they are loaded."""
        return self._loaded

    @property
    def reader(self) -> PromptReader:
        """What makes tokens of texts; there once the model is loaded."""
        return self._reader

    @property
    def dtype(self) -> str:
        """The type of the loaded weights, such as `torch.bfloat16`."""
        return self._loaded.dtype

    @property
    def device_type(self) -> str:
        """Where the loaded model runs, such as `cpu`."""
        return self._loaded.device_type

    def load(self) -> None:
        """Load the model, start the engine, and answer once.

        Raises `ConfigurationError` for what cannot be loaded, and `UpstreamError` where only the
        hub cannot be reached.
        """
        arguments = self.arguments
        log.info("engine_chosen", engine=self.chosen.name, reason=self.chosen.reason)
        self.chosen.require_installed()
        loaded: _AnyModel
        if self.chosen.name == "openvino":
            loaded = load_openvino_model(arguments.model, arguments.weights)
        elif self.chosen.name == "vllm":
            loaded = load_vllm_model(arguments.model, arguments)
        else:
            loaded = load_causal_lm(arguments.model, arguments)
        self._loaded = loaded
        folder = Path(arguments.model)
        self.served_name = folder.name if folder.is_dir() else arguments.model
        self.max_length = min(self.max_length, loaded.max_length)
        # First: that of OpenVINO opens the model in its process while it reads the tokenizer.
        self._engine = self._started_engine(loaded)
        try:
            self._reader = PromptReader(
                loaded.tokenizer, vocabulary=loaded.vocabulary, max_length=self.max_length
            )
            asyncio.run(self._warm_up())
        except InternalError as error:
            self.close()
            raise ConfigurationError(
                f"{self.served_name} was loaded and cannot answer: its weights may be damaged, or "
                "too large for their dtype; the log says more"
            ) from error
        except Exception:
            self.close()
            raise

    def _started_engine(self, loaded: _AnyModel) -> Engine:
        arguments = self.arguments
        if isinstance(loaded, VLLMModel):
            return self._started_vllm(loaded)
        if isinstance(loaded, OpenVINOModel):
            return self._started_openvino(loaded)
        # These bring torch, which a refusal need not wait for.
        from ml.generation.adapters import Adapters
        from ml.generation.answer_matcher import AnswerMatchers
        from ml.generation.transformers_engine import TransformersEngine

        if arguments.adapters_path is not None:
            adapters = self.adapters = Adapters(
                loaded.model,
                Path(arguments.adapters_path),
                max_adapters=arguments.max_adapters,
                max_rank=arguments.max_adapter_rank,
            )
        else:
            adapters = None
        matchers = AnswerMatchers(
            loaded.tokenizer, vocabulary=loaded.vocabulary, end_tokens=loaded.end_tokens
        )
        return TransformersEngine(
            loaded.model,
            end_tokens=loaded.end_tokens,
            adapters=adapters,
            matchers=matchers,
            slots=arguments.slots,
            max_length=self.max_length,
            observer=self.observer,
            reuse_prefixes=arguments.reuse_prefixes,
        )

    def _started_openvino(self, loaded: OpenVINOModel) -> Engine:
        from ml.generation.openvino_engine import OpenVINOEngine

        engine = OpenVINOEngine(
            loaded, self.arguments, max_length=self.max_length, observer=self.observer
        )
        try:
            engine.open()
        except ConfigurationError:
            engine.close()
            raise
        return engine

    def _started_vllm(self, loaded: VLLMModel) -> Engine:
        from ml.generation.vllm_engine import VLLMEngine

        engine = VLLMEngine(
            loaded.source,
            self.arguments,
            end_tokens=loaded.end_tokens,
            max_length=self.max_length,
            observer=self.observer,
        )
        self.adapters = engine.adapters
        return engine

    async def _warm_up(self) -> None:
        """Answer once: the first steps are slow, and a model that cannot answer is not ready."""
        prompt = self.chat([{"role": "user", "content": "Hello"}])
        # With logprobs, so that logits that are not finite are seen.
        sampling = SamplingParameters(max_new_tokens=2, logprobs=True)
        async for _ in self.generate(replace(prompt, sampling=sampling)):
            pass

    def close(self) -> None:
        """Stop the engine; what still generates ends. The model can be loaded again."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    # --- names --------------------------------------------------------------------------------

    def model_names(self) -> list[str]:
        """Return the names that a request may give as its model: its own and its adapters'."""
        adapters = self.adapters.available() if self.adapters is not None else []
        return [self.served_name, *(adapter.name for adapter in adapters)]

    def require_model(self, name: str) -> None:
        """Raise `ModelNotFound` unless a request may give this name as its model."""
        if name not in self.model_names():
            names = ", ".join(self.model_names())
            raise ModelNotFound(f"There is no model {name!r} here, but {names}.")

    # --- prompts ------------------------------------------------------------------------------

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        options: SamplingOptions | None = None,
        *,
        model: str | None = None,
        tools: ToolWish | None = None,
    ) -> Prompt:
        """Return the prompt of a conversation: `{"role": …, "content": …}`, oldest first.

        Calls of tools are in `tool_calls` of an assistant's message, as transformers' templates
        have them, and what came of each in a message of the role `tool`.

        The service's system prompt is put first if the conversation has none, and the service's
        own parameters stand for the options that are not given. Nothing that a message or a tool
        says becomes a control token. Raises `PromptTooLong` when it leaves no room for an answer.
        """
        tools = tools or ToolWish(None)
        ids = self.tokens_of_chat(messages, tools)
        return self._prompt(ids, options, model, tools=self.reader.tool_format.use(tools))

    def tokens_of_chat(self, messages: Sequence[Mapping[str, Any]], tools: ToolWish) -> list[int]:
        """Return the tokens of the prompt of a conversation, as `chat` makes it."""
        system = self.arguments.system_prompt
        if system and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": system}, *messages]
        return self.reader.conversation(messages, tools)

    def complete(
        self,
        text: str | list[int],
        options: SamplingOptions | None = None,
        *,
        model: str | None = None,
        truncate: int | None = None,
        keeps_stop: bool = False,
    ) -> Prompt:
        """Return the prompt of a text, or of its token ids, that the model shall go on with.

        What names a control token in it is one: whoever gives such a prompt writes all of it.
        `truncate` keeps only so many of its last tokens; with `keeps_stop` a stop string is part
        of the answer. Raises `PromptTooLong` as `chat` does.
        """
        if isinstance(text, str):
            ids = self.reader.text(text, truncate=truncate)
        else:
            self.reader.require_known("prompt", text)
            ids = text[-truncate:] if truncate else text
        return self._prompt(ids, options, model, keeps_stop=keeps_stop)

    def _prompt(
        self,
        ids: list[int],
        options: SamplingOptions | None,
        model: str | None,
        *,
        keeps_stop: bool = False,
        tools: ToolUse | None = None,
    ) -> Prompt:
        if model is not None:
            self.require_model(model)
        adapter = None if model == self.served_name else model
        parameters = self._defaults if options is None else options.over(self._defaults)
        if not ids:
            raise InvalidInput("prompt: the prompt is empty")
        if len(ids) >= self.max_length:
            raise PromptTooLong(str(len(ids)), self.max_length)
        self.reader.require_known("logit_bias", parameters.logit_bias)
        name_of = (options or SamplingOptions()).name_of
        if tools is not None:
            if parameters.form is not None:
                raise InvalidInput(
                    "tools: an answer in a form cannot call tools; give one of the two, or "
                    "tool_choice none"
                )
            parameters = replace(parameters, form=tools.form)
        self._require_supported(parameters, name_of, "tools" if tools else name_of("form"))
        return Prompt(ids, parameters, adapter, keeps_stop, tools)

    def _require_supported(
        self, parameters: SamplingParameters, name_of: Callable[[str], str], name_of_form: str
    ) -> None:
        """Raise `InvalidInput` for what the engine cannot do, naming the field."""
        if self._engine is None:
            return
        try:
            self._engine.require_supported(replace(parameters, form=None))
        except Unsupported as error:
            raise InvalidInput(f"{name_of(error.parameter)}: {error.reason}") from error
        if parameters.form is None:
            return
        try:
            self._engine.require_supported(parameters)
        except InvalidInput as error:
            raise InvalidInput(f"{name_of_form}: {error}") from error

    # --- answers ------------------------------------------------------------------------------

    async def score(self, prompts: Sequence[Prompt], *, top_logprobs: int = 0) -> list[list[Token]]:
        """Return the tokens of prompts behind the first of each, with their logprobs.

        Raises `InvalidInput` for more tokens than one request may have scored.
        """
        if self._engine is None:
            raise NotReady("The model is being unloaded.")
        tokens = sum(len(prompt.ids) for prompt in prompts)
        most = max(_MOST_SCORED, self.max_length)
        if tokens > most:
            raise InvalidInput(
                f"prompt: the logprobs of {most} tokens of prompts are told in one request, and "
                f"these have {tokens}; send fewer at once, or leave out echo or logprobs"
            )
        scored = []
        for prompt in prompts:
            async with self._held(prompt) as adapter:
                scored.append(
                    await self._engine.score(prompt.ids, top_logprobs=top_logprobs, adapter=adapter)
                )
        return scored

    @contextlib.asynccontextmanager
    async def _held(self, prompt: Prompt) -> AsyncIterator[Lease | None]:
        """Hold the adapter of a prompt, if it has one."""
        if prompt.adapter is None or self.adapters is None:
            yield None
            return
        async with self.adapters.hold(prompt.adapter) as adapter:
            yield adapter

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Piece, None]:
        """Yield the answer token by token; the last piece has `finished`.

        Closing the iterator frees the model within a token.
        """
        from ml.generation.text import TextStream, read_text

        if self._engine is None:
            raise NotReady("The model is being unloaded.")
        stops = prompt.sampling.stop
        text = TextStream(self._loaded.tokenizer, stops, keeps_stop=prompt.keeps_stop)
        reason = FinishReason.CANCELLED
        span = begin_span("generate", attributes={"gen_ai.request.model": self.served_name})
        try:
            async with contextlib.AsyncExitStack() as held:
                adapter = await held.enter_async_context(self._held(prompt))
                steps = self._engine.generate(prompt.ids, prompt.sampling, adapter=adapter)
                pieces = read_text(steps, text, prompt_tokens=len(prompt.ids))
                await held.enter_async_context(contextlib.aclosing(pieces))
                async for piece in pieces:
                    if piece.finished is not None:
                        reason = piece.finished.reason
                        span.tell(_usage(piece.finished))
                    yield piece
        except Exception:
            reason = FinishReason.ERROR
            raise
        finally:
            self.observer.ended(reason)
            span.tell({"gen_ai.response.finish_reason": reason.value})
            span.end()


def _usage(finished: Finished) -> Attributes:
    """Return what a trace tells of an answer."""
    return {
        "gen_ai.usage.input_tokens": finished.prompt_tokens,
        "gen_ai.usage.output_tokens": finished.completion_tokens,
    }
