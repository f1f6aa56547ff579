"""Answers with a form, as objects."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator

from ml.errors import UnprocessableOutput
from ml.generation.answer_form import JsonAnswer
from ml.generation.request import FinishReason, Piece, Prompt, collect
from ml.generation.tool_calls import CallReader
from ml.json_text import JsonObject

__all__ = ["answer_in_form", "has_a_form"]

_CUT_OFF = (
    "the answer reached the most tokens that it may have before it was whole; raise max_new_tokens"
)


def has_a_form(prompt: Prompt) -> bool:
    """Return whether the answer to a prompt is an object."""
    return prompt.tools is not None or isinstance(prompt.sampling.form, JsonAnswer)


async def answer_in_form(pieces: AsyncGenerator[Piece, None], prompt: Prompt) -> object:
    """Return the JSON of an answer, or its text and its calls of tools.

    Raises `UnprocessableOutput` for an answer that was cut off.
    """
    made, finished = await collect(pieces)
    text = "".join(piece.text for piece in made)
    try:
        return _with_calls(text, prompt) if prompt.tools else json.loads(text)
    except ValueError as error:
        if finished.reason is FinishReason.LENGTH:
            raise UnprocessableOutput(_CUT_OFF) from error
        raise UnprocessableOutput("the answer ended before it was whole") from error


def _with_calls(text: str, prompt: Prompt) -> JsonObject:
    assert prompt.tools is not None  # noqa: S101 (who calls this knows)
    reader = CallReader(prompt.tools)
    said, names, arguments = "", list[str](), list[str]()
    for part in [*reader.feed(text), *reader.rest()]:
        if isinstance(part, str):
            said += part
        elif part.name is not None:
            names.append(part.name)
            arguments.append("")
        else:
            arguments[part.index] += part.arguments
    if prompt.tools.form.required and not names:
        raise ValueError("no call was made")
    calls = [
        {"name": name, "arguments": json.loads(given)}
        for name, given in zip(names, arguments, strict=True)
    ]
    return {"content": said or None, "tool_calls": calls}
