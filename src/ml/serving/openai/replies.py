"""What OpenAI's clients read of completions and of models."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from ml.generation.request import Prompt
from ml.json_text import JsonObject
from ml.serving.openai.choices import Choice

__all__ = ["CompletionForm", "model_list", "model_object", "usage"]


@dataclass(frozen=True)
class CompletionForm:
    """Writes one reply, whole or in chunks, for a chat or for a text.

    `fingerprint` tells apart what may answer the same seed with other tokens.
    """

    model: str
    fingerprint: str
    is_chat: bool
    with_usage: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, choices: Sequence[Choice], usage: JsonObject) -> JsonObject:
        """Return the reply in one object."""
        told = [choice.whole(index) for index, choice in enumerate(choices)]
        kind = "chat.completion" if self.is_chat else "text_completion"
        return self._object(kind, told) | {"usage": usage}

    def chunk(self, choice: JsonObject) -> JsonObject:
        """Return one piece of a choice; its last has the finish reason."""
        chunk = self._object(self._kind_of_chunks, [choice])
        return chunk | {"usage": None} if self.with_usage else chunk

    def usage_chunk(self, usage: JsonObject) -> JsonObject:
        """Return the chunk behind the last that has the numbers of tokens."""
        return self._object(self._kind_of_chunks, []) | {"usage": usage}

    @property
    def _kind_of_chunks(self) -> str:
        return "chat.completion.chunk" if self.is_chat else "text_completion"

    def _object(self, kind: str, choices: list[JsonObject]) -> JsonObject:
        prefix = "chatcmpl" if self.is_chat else "cmpl"
        return {
            "id": f"{prefix}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
            "system_fingerprint": self.fingerprint,
        }


def usage(prompts: Sequence[Prompt], choices: Sequence[Choice]) -> JsonObject:
    """Return the numbers of tokens: each prompt counts once, however many answers it has."""
    prompt = sum(len(one.ids) for one in prompts)
    ends = [choice.finished for choice in choices if choice.finished is not None]
    completion = sum(finished.completion_tokens for finished in ends)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def model_object(name: str) -> JsonObject:
    """Return a model's entry."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "operator"}


def model_list(names: list[str]) -> JsonObject:
    """Return the body of `GET /v1/models`."""
    return {"object": "list", "data": [model_object(name) for name in names]}
