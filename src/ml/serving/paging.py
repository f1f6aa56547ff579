"""How much of a list a client asks for."""

from __future__ import annotations

from pydantic import Field

from ml.serving.query import Query

__all__ = ["MOST_ENTRIES", "PageQuery"]

#: The most entries of a list's page.
MOST_ENTRIES = 100


class PageQuery(Query):
    """A page of a list."""

    limit: int = Field(
        default=MOST_ENTRIES, ge=1, le=MOST_ENTRIES, description="How many entries, at most"
    )
    after: str | None = Field(
        default=None, description="The id of the last entry that you have; by default, none"
    )
