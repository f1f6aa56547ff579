"""How much a query may take."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["QueryLimits"]


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """What ends a query with an error instead of a cut result.

    Attributes:
        seconds: of the query here, or of the wait for a remote engine's results.
        rows: of the result.
        bytes: of the result's texts, or of a downloaded results database.
    """

    seconds: float = 60.0
    rows: int = 200_000
    bytes: int = 512 * 1024**2
