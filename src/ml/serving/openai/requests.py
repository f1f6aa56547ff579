"""What OpenAI's clients send.

Source: OpenAI's API reference, "Chat completions" and "Completions (legacy)". `top_k`, and the
fields under `_OF_OTHER_SERVERS`, are none of theirs; other servers of this API have them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from ml.generation.request import SamplingParameters
from ml.generation.sampling_options import (
    MOST_ANSWERS,
    NUMERIC,
    Alternatives,
    Answers,
    MaxNewTokens,
    NewTokens,
    StopStrings,
)
from ml.generation.tools import ToolChoice, Tools, ToolWish
from ml.models.local_models import NAMES_OF_ANY_MODEL
from ml.serving.client_request import ClientRequest
from ml.serving.openai.answer_forms import AnswerForms
from ml.serving.openai.messages import Message

__all__ = ["ChatCompletionRequest", "CompletionRequest", "texts_or_ids"]

_MOST_BIASES = 1024
#: Of vLLM, SGLang and Text Generation Inference, with the values that change nothing.
_OF_OTHER_SERVERS: dict[str, tuple[object, ...]] = {
    "add_special_tokens": (),
    "allowed_token_ids": ([],),
    "bad_words": ([],),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "documents": ([],),
    "early_stopping": (False,),
    "guided_grammar": (),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "logits_processors": ([],),
    "min_tokens": (0,),
    "priority": (0,),
    "prompt_logprobs": (0,),
    "return_token_ids": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "stop_token_ids": ([],),
    "truncate_prompt_tokens": (),
    "typical_p": (1,),
    "use_beam_search": (False,),
}


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


def texts_or_ids(value: object) -> object:
    """Return a list of what is given: a text, token ids, or a list of either."""
    if isinstance(value, str) or _are_ids(value):
        return [value]
    if isinstance(value, list) and all(isinstance(one, str) or _are_ids(one) for one in value):
        return value
    raise ValueError("give a text, token ids, or a list of texts or of lists of token ids")


def _none_for_false(value: object) -> object:
    return None if value is False else value


def _are_ids(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(one) is int for one in value)


LogitBias = Annotated[
    dict[int, Annotated[float, Field(ge=-100, le=100), NUMERIC]], Field(max_length=_MOST_BIASES)
]


class StreamOptions(ClientRequest):
    """What a stream has beside the text."""

    ignored: ClassVar = frozenset({"continuous_usage_stats", "include_obfuscation"})

    include_usage: bool | None = None


class _Request(ClientRequest, AnswerForms):
    neutral: ClassVar = {
        **_OF_OTHER_SERVERS,
        "functions": ([],),
        "function_call": ("none", "auto"),
        "modalities": (["text"],),
        "audio": (),
        "prediction": (),
        "reasoning_effort": (),
        "verbosity": (),
        "web_search_options": (),
        "moderation": (),
        "suffix": ("",),
    }
    ignored: ClassVar = frozenset(
        {
            "metadata",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "safety_identifier",
            "service_tier",
            "store",
            "user",
        }
    )

    model: str | None = Field(default=None, description="One of /v1/models; the first by default")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_new_tokens: MaxNewTokens | None = Field(default=None, alias="max_tokens")
    stop: Annotated[StopStrings | None, BeforeValidator(_one_or_more)] = None
    n: Answers | None = Field(default=None, description="Answers to each prompt")
    logit_bias: LogitBias | None = Field(
        default=None, description="Added to the logits of tokens, by their ids"
    )

    def over(self, defaults: SamplingParameters) -> SamplingParameters:
        """Return the parameters of the request."""
        parameters = super().over(defaults)
        return replace(parameters, logit_bias=self.logit_bias or {}, form=self.form())

    @property
    def model_name(self) -> str | None:
        """The model that is asked for, None for the service's own."""
        return None if self.model in NAMES_OF_ANY_MODEL else self.model

    @property
    def wants_usage(self) -> bool:
        """Whether a stream shall end with the numbers of tokens."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class ChatCompletionRequest(_Request):
    """The body of `POST /v1/chat/completions`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "messages": [{"role": "user", "content": "What is the capital of France?"}],
                    "max_tokens": 16,
                }
            ]
        }
    )

    neutral: ClassVar = {**_Request.neutral, "best_of": (1,), "echo": (False,)}

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: MaxNewTokens | None = None
    logprobs: bool | None = Field(default=None, description="Tokens with their probabilities")
    top_logprobs: Alternatives | None = Field(
        default=None, description="The likeliest tokens in each place, so many"
    )
    tools: Tools | None = Field(default=None, description="Functions that the model may call")
    tool_choice: ToolChoice | None = Field(
        default=None, description="none, auto, required, or the function that has to be called"
    )
    parallel_tool_calls: bool | None = Field(
        default=None, description="false allows one call in an answer"
    )

    @model_validator(mode="after")
    def _has_probabilities_for_alternatives(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs: set logprobs to true with it")
        return self

    def over(self, defaults: SamplingParameters) -> SamplingParameters:
        """Return the parameters of the request; the newer of the two names for a limit wins."""
        parameters = replace(
            super().over(defaults),
            logprobs=bool(self.logprobs),
            top_logprobs=self.top_logprobs or 0,
        )
        newer = self.max_completion_tokens
        return parameters if newer is None else replace(parameters, max_new_tokens=newer)

    def tool_wish(self) -> ToolWish:
        """Return what the request says of tools."""
        return ToolWish(self.tools, self.tool_choice, parallel=self.parallel_tool_calls)


class CompletionRequest(_Request):
    """The body of `POST /v1/completions`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "The capital of France is", "max_tokens": 8}]}
    )

    prompt: Annotated[list[str | list[int]], BeforeValidator(texts_or_ids)] = Field(
        min_length=1,
        max_length=MOST_ANSWERS,
        description="Texts to go on with, or their token ids; the choices have their order",
    )
    max_new_tokens: NewTokens | None = Field(default=None, alias="max_tokens")
    best_of: Answers | None = Field(
        default=None, description="Answers that are made, of which the n likeliest are returned"
    )
    echo: bool | None = Field(default=None, description="Return the prompt before the answer")
    logprobs: Annotated[int | None, NUMERIC, BeforeValidator(_none_for_false)] = Field(
        default=None, ge=0, le=5, description="The likeliest tokens in each place, so many"
    )

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        if self.max_new_tokens == 0 and not self.echo:
            raise ValueError("max_tokens: 0 needs echo, else there is no answer")
        if self.best_of is not None and self.best_of < (self.n or 1):
            raise ValueError("best_of: give at least n")
        if self.best_of is not None and self.best_of > (self.n or 1) and self.stream:
            raise ValueError("best_of: the best are only known at the end; ask without stream")
        if len(self.prompt) * self.answers > MOST_ANSWERS:
            raise ValueError(f"n: all prompts together may have {MOST_ANSWERS} answers")
        return self

    @property
    def answers(self) -> int:
        """How many answers are made to each prompt."""
        return self.best_of or self.n or 1

    def name_of(self, parameter: str) -> str:
        """Return what these clients call a parameter."""
        return "logprobs" if parameter == "top_logprobs" else super().name_of(parameter)

    def over(self, defaults: SamplingParameters) -> SamplingParameters:
        """Return the parameters of the request."""
        return replace(
            super().over(defaults),
            logprobs=self.logprobs is not None or self.answers > (self.n or 1),
            top_logprobs=self.logprobs or 0,
        )
