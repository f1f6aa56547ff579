"""What a circuit costs, told from its settings before the expensive stages begin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["estimated_memory_bytes"]

#: Measured with ezkl 23.0.5 on circuits of 2^9 to 2^15 rows; good to about a third.
_BASE_BYTES = 40_000_000
_BYTES_PER_ROW = 10_500
_LOOKUP_BYTES_PER_ROW = 18_500


def estimated_memory_bytes(settings: Mapping[str, Any]) -> int:
    """Return roughly how much memory one proof takes, for the settings of a circuit."""
    per_row = _BYTES_PER_ROW
    if settings["required_lookups"]:
        per_row += _LOOKUP_BYTES_PER_ROW
    rows: int = 2 ** settings["run_args"]["logrows"]
    return _BASE_BYTES + rows * per_row
