"""A page of a list, as OpenAI's clients read it."""

from __future__ import annotations

from typing import Any

__all__ = ["list_page"]


def list_page(entries: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """Return a page of entries that have ids."""
    ends = {"first_id": entries[0]["id"], "last_id": entries[-1]["id"]} if entries else {}
    return {"object": "list", "data": entries, **ends, "has_more": has_more}
