"""What a language model is asked: the document's `LLMRequest`."""

from __future__ import annotations

from pydantic import Field

from ml.generation.sampling_options import SamplingOptions
from ml.workflows.inference.text_input import TextInput

__all__ = ["LLMRequest"]


class LLMRequest(TextInput, SamplingOptions):
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

    def messages(self) -> list[dict[str, str]]:
        """Return the conversation for a chat template: `bot` is assistant, `player` is user."""
        messages = []
        roles = {"bot": "assistant", "player": "user"}
        for entry in self.history or []:
            for speaker, said in (entry or {}).items():
                if speaker in roles and said:
                    messages.append({"role": roles[speaker], "content": said})
        return [*messages, {"role": "user", "content": self.text}]
