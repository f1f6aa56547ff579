"""The items of a response, which grow while the answer is made, and the events that tell of it.

Source: OpenAI's API reference, "Responses: streaming events".
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from ml.generation.tool_calls import CallPart
from ml.serving.openai.choices import new_call_id

__all__ = ["ResponseItems"]

Event = dict[str, Any]


class ResponseItems:
    """Texts and calls in their order; each method yields the events of what it changes."""

    def __init__(self) -> None:
        self.output: list[dict[str, Any]] = []

    def hear(self, part: str | CallPart, logprobs: Sequence[dict[str, Any]]) -> Iterator[Event]:
        """Add a piece of the answer."""
        if isinstance(part, str):
            if self._open_kind != "message":
                yield from self.close("completed")
                yield from self._begin_message()
            content = self.output[-1]["content"][0]
            content["text"] += part
            content["logprobs"] += logprobs
            yield self._of_text("delta", delta=part, logprobs=list(logprobs))
        elif part.name is not None:
            yield from self.close("completed")
            yield self._begin(
                {
                    "id": _new_id("fc"),
                    "type": "function_call",
                    "status": "in_progress",
                    "call_id": new_call_id(),
                    "name": part.name,
                    "arguments": "",
                }
            )
        else:
            self.output[-1]["arguments"] += part.arguments
            yield self._of_arguments("delta", delta=part.arguments)

    def close(self, status: str) -> Iterator[Event]:
        """End the last item, if it is open."""
        kind = self._open_kind
        if kind is None:
            return
        item = self.output[-1]
        if kind == "message":
            content = item["content"][0]
            yield self._of_text("done", text=content["text"], logprobs=content["logprobs"])
            yield self._of_part("done", content)
        else:
            yield self._of_arguments("done", arguments=item["arguments"])
        item["status"] = status
        yield self._event("output_item.done", item=_copy(item))

    @property
    def _open_kind(self) -> str | None:
        """The kind of the item that grows."""
        if self.output and self.output[-1]["status"] == "in_progress":
            return str(self.output[-1]["type"])
        return None

    def _begin(self, item: dict[str, Any]) -> Event:
        self.output.append(item)
        return self._event("output_item.added", item=_copy(item))

    def _begin_message(self) -> Iterator[Event]:
        content = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        item = {"id": _new_id("msg"), "type": "message", "status": "in_progress"}
        item["role"] = "assistant"
        yield self._begin({**item, "content": []})
        self.output[-1]["content"].append(content)
        yield self._of_part("added", content)

    def _of_text(self, what: str, **data: Any) -> Event:
        return self._of_item(f"output_text.{what}", content_index=0, **data)

    def _of_part(self, what: str, content: dict[str, Any]) -> Event:
        return self._of_item(f"content_part.{what}", content_index=0, part=dict(content))

    def _of_arguments(self, what: str, **data: Any) -> Event:
        return self._of_item(f"function_call_arguments.{what}", **data)

    def _of_item(self, name: str, **data: Any) -> Event:
        return self._event(name, item_id=self.output[-1]["id"], **data)

    def _event(self, name: str, **data: Any) -> Event:
        return {"type": f"response.{name}", "output_index": len(self.output) - 1, **data}


def _copy(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item as it is now, which an event may keep while the item grows."""
    if "content" in item:
        return {**item, "content": [dict(content) for content in item["content"]]}
    return dict(item)


def _new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"
