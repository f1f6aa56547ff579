"""How long a page of a list is."""

from __future__ import annotations

from quart import request

from ml.errors import InvalidInput

__all__ = ["MOST_ENTRIES", "page_limit"]

#: The most jobs of a list's page.
MOST_ENTRIES = 100


def page_limit(default: int = MOST_ENTRIES, *, most: int = MOST_ENTRIES) -> int:
    """Return how many entries a list shall have: `?limit=`. Raises `InvalidInput`."""
    text = request.args.get("limit", str(default))
    is_number = text.isascii() and text.isdigit() and len(text) < 19
    if not is_number or not 1 <= int(text) <= most:
        raise InvalidInput(f"limit: give a whole number from 1 to {most}")
    return int(text)
