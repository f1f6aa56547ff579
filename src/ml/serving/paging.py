"""How much of a list or a stream a client asks for."""

from __future__ import annotations

from quart import request

from ml.errors import InvalidInput

__all__ = ["MOST_ENTRIES", "asked_number", "page_limit"]

#: The most jobs of a list's page.
MOST_ENTRIES = 100


def page_limit(default: int = MOST_ENTRIES, *, most: int = MOST_ENTRIES) -> int:
    """Return how many entries a list shall have: `?limit=`. Raises `InvalidInput`."""
    return asked_number("limit", 1, most) or default


def asked_number(name: str, least: int, most: int) -> int | None:
    """Return a number of the query, None if it has none. Raises `InvalidInput`."""
    if name not in request.args:
        return None
    text = request.args[name]
    is_number = text.isascii() and text.isdigit() and len(text) < 19
    if not is_number or not least <= int(text) <= most:
        raise InvalidInput(f"{name}: give a whole number from {least} to {most}")
    return int(text)
