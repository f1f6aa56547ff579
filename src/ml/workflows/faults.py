"""Arguments at fault, told together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from ml.errors import ConfigurationError

__all__ = ["Faults"]

P = ParamSpec("P")
T = TypeVar("T")


class Faults:
    """Collects what several checks find, so that a person mends all of it at once.

    faults = Faults()
    seconds = faults.of(checked_seconds, given)
    faults.tell()
    """

    def __init__(self) -> None:
        self._lines: list[str] = []

    def of(self, check: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a check returns; where it refuses, its fault is kept and nothing is due."""
        try:
            return check(*args, **kwargs)
        except ConfigurationError as error:
            self.add(str(error))
            return cast(T, cast(Any, None))

    def add(self, *texts: str) -> None:
        """Keep faults, one a line."""
        for text in texts:
            self._lines += text.splitlines()

    def tell(self) -> None:
        """Raise `ConfigurationError` with all faults, if there are any."""
        if self._lines:
            raise ConfigurationError("\n".join(self._lines))
