"""What a language model is asked: the document's `LLMRequest`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import AfterValidator, Field

from ml.generation.request import SamplingParameters
from ml.generation.response_format import ResponseFormat
from ml.generation.sampling_options import SamplingOptions
from ml.generation.tools import ToolChoice, Tools, ToolWish
from ml.workflows.inference.text_input import TextInput

__all__ = ["LLMRequest"]


#: Who speaks in a history, and the role that chat templates know.
_ROLES = {"bot": "assistant", "player": "user"}


def _spoken(entry: dict[str, str | None]) -> dict[str, str | None]:
    for name in entry:
        if name not in _ROLES:
            raise ValueError(f"no such speaker: {name[:100]!r}; give {' or '.join(_ROLES)}")
    return entry


Entry = Annotated[dict[str, str | None], AfterValidator(_spoken)]


class LLMRequest(TextInput, SamplingOptions):
    """A text to answer, with what was said before.

    Generation parameters that are not given are the service's own.
    """

    key: str | None = None
    messageId: str | None = None  # noqa: N815 (the document's name)
    history: list[Entry | None] | None = Field(
        default=None,
        description='What was said before, oldest first: [{"bot": "…"}, {"player": "…"}]',
    )
    model: str | None = Field(default=None, description="The name of an adapter")
    tools: Tools | None = Field(
        default=None,
        description='Functions that the model may call; the answer is {"content", "tool_calls"}',
    )
    tool_choice: ToolChoice | None = Field(
        default=None, description="none, auto, required, or the function that has to be called"
    )
    response_format: ResponseFormat | None = Field(
        default=None, description="The answer is JSON, such as a schema accepts"
    )

    def over(self, defaults: SamplingParameters) -> SamplingParameters:
        """Return the parameters of the request."""
        parameters = super().over(defaults)
        if self.response_format is None:
            return parameters
        return replace(parameters, form=self.response_format.form())

    def tool_wish(self) -> ToolWish:
        """Return what the request says of tools."""
        return ToolWish(self.tools, self.tool_choice)

    def messages(self) -> list[dict[str, str]]:
        """Return the conversation for a chat template: `bot` is assistant, `player` is user."""
        messages = []
        for entry in self.history or []:
            for speaker, said in (entry or {}).items():
                if said:
                    messages.append({"role": _ROLES[speaker], "content": said})
        return [*messages, {"role": "user", "content": self.text}]
