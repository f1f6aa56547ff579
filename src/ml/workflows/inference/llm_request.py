"""What a language model is asked: the document's `LLMRequest`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ml.generation.request import TopK, TopP
from ml.workflows.inference.text_input import TextInput

__all__ = ["LLMRequest"]


class LLMRequest(TextInput):
    """A text to answer, with what was said before.

    Generation parameters that are not given are the service's own.
    """

    key: str | None = None
    messageId: str | None = None  # noqa: N815 (the document's name)
    history: list[dict[str, str | None] | None] | None = Field(
        default=None,
        description='What was said before, oldest first: [{"bot": "…"}, {"player": "…"}]',
    )
    model: str | None = Field(default=None, description="The name of an adapter")
    max_new_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=5)
    top_p: TopP | None = None
    top_k: TopK | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    stop: list[str] | None = Field(default=None, max_length=16)

    def messages(self) -> list[dict[str, str]]:
        """Return the conversation for a chat template: `bot` is assistant, `player` is user."""
        messages = []
        roles = {"bot": "assistant", "player": "user"}
        for entry in self.history or []:
            for speaker, said in (entry or {}).items():
                if speaker in roles and said:
                    messages.append({"role": roles[speaker], "content": said})
        return [*messages, {"role": "user", "content": self.text}]

    def sampling(self) -> dict[str, Any]:
        """Return what the request says about sampling; None where it says nothing."""
        fields = ("max_new_tokens", "temperature", "top_p", "top_k", "seed")
        stop = None if self.stop is None else tuple(self.stop)
        return {**{name: getattr(self, name) for name in fields}, "stop": stop}
