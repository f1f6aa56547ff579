"""What a part finds: a line of JSON on its standard output, at once, so that none is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

__all__ = ["Finding", "Part", "Scale"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A row of the table; `good` is None for what is measured, not checked."""

    what: str
    result: str
    good: bool | None = None

    def print(self) -> None:
        print(json.dumps(asdict(self)), flush=True)


@dataclass(frozen=True, slots=True)
class Scale:
    """Where things run, and whether only a little of everything is done."""

    device: str
    quick: bool

    @property
    def connections(self) -> tuple[int, ...]:
        return (1, 4) if self.quick else (1, 8, 32)


Part = Callable[[Scale], Iterator[Finding]]
