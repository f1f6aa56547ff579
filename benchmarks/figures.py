"""A measured figure with its noise, as it stands in a table and in `results.json`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

__all__ = ["Figure"]

_KEPT_PLACES = 5


@dataclass(frozen=True, slots=True)
class Figure:
    """The median of some rounds, with the least and the most of them.

    Attributes:
        median: NaN for what was cut.
        least, most: the same as the median where there was one round.
        places: behind the point, where it is written.
        unit: written behind it, such as "ms".
    """

    median: float
    least: float
    most: float
    places: int = 2
    unit: str = ""

    @classmethod
    def of(cls, *values: float, places: int = 2, unit: str = "") -> Self:
        """Return what some rounds came to."""
        kept = [round(value, _KEPT_PLACES) for value in values]
        return cls(statistics.median(kept), min(kept), max(kept), places, unit)

    @classmethod
    def ratio(cls, ours: Sequence[float], theirs: Sequence[float], places: int = 2) -> Self:
        """Return the ratios within rounds."""
        return cls.of(*(a / b for a, b in zip(ours, theirs, strict=True)), places=places)

    @classmethod
    def from_json(cls, form: dict[str, Any]) -> Self:
        """Return what `to_json` made."""
        median = math.nan if form["median"] is None else form["median"]
        least, most = form.get("least", median), form.get("most", median)
        return cls(median, least, most, form.get("places", 0), form.get("unit", ""))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data, without what goes without saying."""
        form: dict[str, Any] = {"median": self.median if math.isfinite(self.median) else None}
        if self.least != self.most and math.isfinite(self.median):
            form |= {"least": self.least, "most": self.most}
        if self.places:
            form["places"] = self.places
        return form | ({"unit": self.unit} if self.unit else {})

    def __str__(self) -> str:
        """Return the median and, in brackets, the least and the most."""
        if not math.isfinite(self.median):
            return "cut"
        text = self._written(self.median)
        if self.least < self.most:
            text += f" ({self._written(self.least)}–{self._written(self.most)})"
        space = "" if self.unit in ("%", "/s") else " "
        return f"{text}{space}{self.unit}".rstrip()

    def _written(self, value: float) -> str:
        return f"{value:.{self.places}f}" if math.isfinite(value) else "cut"
