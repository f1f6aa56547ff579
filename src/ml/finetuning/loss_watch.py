"""Whether a loss rises, told from how much it varies anyhow."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass

__all__ = ["LossWatch"]

#: So many logged losses are compared with the best so many in a row.
_WINDOW = 10
#: A rise is by this share of the best mean and this many nats more, and by so many standard errors.
_SHARE, _NATS, _ERRORS = 0.2, 0.1, 6.0


@dataclass(frozen=True, slots=True)
class _Stretch:
    mean: float
    variance: float


class LossWatch:
    """Warns once when the loss rises, and again only after it came back."""

    def __init__(self) -> None:
        self._newest: deque[float] = deque(maxlen=_WINDOW)
        self._best: _Stretch | None = None
        self._risen = False

    def warning(self, loss: float) -> str | None:
        """Take the next loss; return what there is to warn of."""
        self._newest.append(loss)
        if len(self._newest) < _WINDOW:
            return None
        now = _Stretch(statistics.fmean(self._newest), statistics.pvariance(self._newest))
        if self._best is None or now.mean <= self._best.mean:
            self._best, self._risen = now, False
            return None
        best = self._best
        least = _SHARE * best.mean + _NATS
        # What is best by chance varies little by the same chance.
        noise = _ERRORS * (2 * max(now.variance, best.variance) / _WINDOW) ** 0.5
        rise = now.mean - best.mean
        if rise < least / 2:
            self._risen = False
        if rise < max(least, noise) or self._risen:
            return None
        self._risen = True
        return f"The loss rises: {now.mean:.3g} on average, after {best.mean:.3g}"
