"""What OpenAI's clients send.

Source: OpenAI's API reference, "Chat completions" and "Completions (legacy)". `top_k`, and the
fields under `_OF_OTHER_SERVERS`, are none of theirs; other servers of this API have them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationError

from ml.errors import describe_faults
from ml.generation.request import SamplingParameters
from ml.generation.sampling_options import MaxNewTokens, SamplingOptions, StopStrings
from ml.models.local_models import NAMES_OF_ANY_MODEL
from ml.serving.client_request import ClientRequest

__all__ = ["ChatCompletionRequest", "CompletionRequest", "Message"]

#: The most texts that one request may have gone on with: each waits for a slot of its own.
_MOST_PROMPTS = 64
#: Of vLLM, SGLang and Text Generation Inference, with the values that change nothing.
_OF_OTHER_SERVERS: dict[str, tuple[Any, ...]] = {
    "add_special_tokens": (),
    "allowed_token_ids": ([],),
    "bad_words": ([],),
    "best_of": (1,),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "documents": ([],),
    "early_stopping": (False,),
    "guided_choice": ([],),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
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
    "structured_outputs": ({},),
    "truncate_prompt_tokens": (),
    "typical_p": (1,),
    "use_beam_search": (False,),
}


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _prompts(value: Any) -> Any:
    """Return the prompts of `prompt`: a text, token ids, or a list of either."""
    if isinstance(value, str) or _are_ids(value):
        return [value]
    if isinstance(value, list) and all(isinstance(one, str) or _are_ids(one) for one in value):
        return value
    raise ValueError("give a text, token ids, or a list of texts or of lists of token ids")


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(one) is int for one in value)


class TextPart(ClientRequest):
    """A part of a turn's content."""

    ignored: ClassVar = frozenset({"cache_control", "prompt_cache_breakpoint"})

    type: Literal["text"]
    text: str


def _joined(content: Any) -> Any:
    """Return the text of a content that is given in parts."""
    if not isinstance(content, list):
        return content
    if not content:
        raise ValueError("give at least one part")
    return "".join(_text_of(number, part) for number, part in enumerate(content))


def _text_of(number: int, part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, str) and kind != "text":
        raise ValueError(f'part {number}: {kind!r} is not supported, only {{"type": "text"}}')
    try:
        return TextPart.model_validate(part).text
    except ValidationError as error:
        raise ValueError(f"part {number}: {describe_faults(error)}") from None


class Message(ClientRequest):
    """One turn of a conversation."""

    neutral: ClassVar = {
        "tool_calls": ([],),
        "tool_call_id": (),
        "function_call": (),
        "audio": (),
        "refusal": (),
        "reasoning": (),
        "reasoning_content": (),
    }
    ignored: ClassVar = frozenset({"name", "annotations"})

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_joined)]

    def for_template(self) -> dict[str, str]:
        """Return the turn as chat templates know it."""
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": self.content}


class StreamOptions(ClientRequest):
    """What a stream has beside the text."""

    ignored: ClassVar = frozenset({"include_obfuscation"})

    include_usage: bool | None = None


class _Request(ClientRequest, SamplingOptions):
    neutral: ClassVar = {
        **_OF_OTHER_SERVERS,
        "n": (1,),
        "logit_bias": ({},),
        "tools": ([],),
        "tool_choice": ("none", "auto"),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "response_format": ({"type": "text"},),
        "modalities": (["text"],),
        "logprobs": (False,),
        "top_logprobs": (0,),
        "audio": (),
        "prediction": (),
        "reasoning_effort": (),
        "verbosity": (),
        "web_search_options": (),
        "moderation": (),
        "echo": (False,),
        "suffix": ("",),
    }
    ignored: ClassVar = frozenset(
        {
            "metadata",
            "parallel_tool_calls",
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

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: MaxNewTokens | None = None

    def over(self, defaults: SamplingParameters) -> SamplingParameters:
        """Return the parameters of the request; the newer of the two names for a limit wins."""
        parameters, newer = super().over(defaults), self.max_completion_tokens
        return parameters if newer is None else replace(parameters, max_new_tokens=newer)


class CompletionRequest(_Request):
    """The body of `POST /v1/completions`."""

    prompt: Annotated[list[str | list[int]], BeforeValidator(_prompts)] = Field(
        min_length=1,
        max_length=_MOST_PROMPTS,
        description="Texts to go on with, or their token ids; the choices have their order",
    )
