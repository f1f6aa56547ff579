"""The page on which models are tried: a conversation, asked of up to three of them side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ml.serving.openai.requests import ChatCompletionRequest
from ml.serving.pages.page import Page, add_page

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

__all__ = ["add_chat_page"]

_BOUNDS = {
    "minimum": "min",
    "exclusiveMinimum": "min",
    "maximum": "max",
    "exclusiveMaximum": "max",
}
#: The largest whole number that scripts of a page hold exactly.
_MOST = 2**53 - 1


def add_chat_page(app: ServiceApp, *, keeps_feedback: bool = False) -> None:
    """Show the page, where the workflow has a language model to talk with.

    `keeps_feedback` says that the service has `POST /v1/models/NAME/feedback` for all models but
    the first: without it, nobody is asked what they think of an answer.
    """
    if app.workflow.text_generation is None:
        return
    about = "Talk with the models, and compare what they answer side by side."
    add_page(
        app,
        Page("/chat", "Chat", "chat.html", about),
        bounds={name: _bounds(name) for name in ("temperature", "max_tokens", "top_p", "seed")},
        keeps_feedback=keeps_feedback,
    )


def _bounds(name: str) -> dict[str, float | str]:
    """Return the attributes of a number's field, as the API has its bounds."""
    schema: dict[str, Any] = ChatCompletionRequest.model_json_schema()["properties"][name]
    number = next(one for one in schema["anyOf"] if one["type"] != "null")
    bounds = {_BOUNDS[key]: min(number[key], _MOST) for key in _BOUNDS if key in number}
    return {**bounds, "step": 1 if number["type"] == "integer" else "any"}
