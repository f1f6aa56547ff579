"""A page of a list, as OpenAI's clients read it."""

from __future__ import annotations

from ml.json_text import JsonObject

__all__ = ["list_page"]


def list_page(entries: list[JsonObject], has_more: bool) -> JsonObject:
    """Return a page of entries that have ids."""
    ends = {"first_id": entries[0]["id"], "last_id": entries[-1]["id"]} if entries else {}
    return {"object": "list", "data": entries, **ends, "has_more": has_more}
