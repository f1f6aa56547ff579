"""In which order replicas are asked to answer by an adapter, the same wherever that is decided."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

__all__ = ["Place", "in_order"]

#: A replica with more requests than these, and than this part of the mean, is busy: others help.
_BUSY, _FAIR_SHARE = 16, 1.5


@dataclass(frozen=True, slots=True)
class Place:
    """A replica, as those know it who send requests to replicas.

    Attributes:
        loaded: the names of the adapters that it had loaded when it last told, seconds ago.
        room: how many more it could load without dropping one.
        requests: those that it has, as far as is known where this is decided.
    """

    name: str
    loaded: Collection[str]
    room: int
    requests: int


def in_order(adapter: str, places: Sequence[Place]) -> list[Place]:
    """Return the places in the order in which they are to be asked.

    First those that are not busy, of these those that have the adapter, and then those with room.
    Among equals a hash of both names decides: so who knows nothing of each other chooses the same,
    and the loss of a replica moves no adapters but its own.
    """
    most = max(_BUSY, _FAIR_SHARE * sum(place.requests for place in places) / len(places))

    def rank(place: Place) -> tuple[bool, bool, bool, int]:
        hashed = zlib.crc32(f"{adapter} {place.name}".encode())
        return place.requests > most, adapter not in place.loaded, place.room == 0, hashed

    return sorted(places, key=rank)
