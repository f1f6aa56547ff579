"""What OpenAI's clients send.

Source: OpenAI's API reference, "Chat completions" and "Completions (legacy)". `top_k` is no field
of theirs; other servers of this API have it too.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from ml.models.local_models import NAMES_OF_ANY_MODEL
from ml.serving.client_request import ClientRequest

__all__ = ["ChatCompletionRequest", "CompletionRequest", "Message"]


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _joined(content: Any) -> Any:
    """Return the text of a content that is given in parts."""
    if not isinstance(content, list):
        return content
    if all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        return "".join(str(part.get("text", "")) for part in content)
    raise ValueError('only parts of {"type": "text"} are supported')


class Message(ClientRequest):
    """One turn of a conversation."""

    neutral: ClassVar = {"tool_calls": ([],), "function_call": (), "audio": (), "refusal": ()}
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


class _Request(ClientRequest):
    neutral: ClassVar = {
        "n": (1,),
        "frequency_penalty": (0,),
        "presence_penalty": (0,),
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
        "best_of": (1,),
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
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=5)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    stop: Annotated[list[str] | None, BeforeValidator(_one_or_more)] = Field(
        default=None, max_length=16
    )

    @property
    def model_name(self) -> str | None:
        """The model that is asked for, None for the service's own."""
        return None if self.model in NAMES_OF_ANY_MODEL else self.model

    @property
    def wants_usage(self) -> bool:
        """Whether a stream shall end with the numbers of tokens."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def sampling(self) -> dict[str, Any]:
        """Return what the request says about sampling; None where it says nothing."""
        return {
            "max_new_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "seed": self.seed,
            "stop": None if self.stop is None else tuple(self.stop),
        }


class ChatCompletionRequest(_Request):
    """The body of `POST /v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)

    def sampling(self) -> dict[str, Any]:
        """Return what the request says about sampling; None where it says nothing."""
        newer = self.max_completion_tokens
        return super().sampling() | ({} if newer is None else {"max_new_tokens": newer})


class CompletionRequest(_Request):
    """The body of `POST /v1/completions`."""

    prompt: Annotated[list[str], BeforeValidator(_one_or_more)] = Field(
        min_length=1, max_length=1, description="One text to go on with"
    )
