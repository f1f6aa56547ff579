"""The events of a long job, as few as its charts can show.

A chart has some hundred places from left to right, a job hundreds of thousands of steps. So the
events of its progress are divided into parts of as many events each, and of each part those stay
which have the lowest and the highest value of a curve: no peak and no dip is lost, which an even
sample or a mean would do. What stays are events as they were, with their ids. Of the other events
the first and the newest stay.

Where a part is as long as a stretch of `ml.jobs.stretches` or longer, only what the stretches have
is read; events that are in none, and the newest ones, are read one by one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ml.jobs.event_type import EventType
from ml.jobs.job import JobEvent
from ml.jobs.stretches import CURVES, LENGTH, STEP, Stretch, Texts, read_stretches

if TYPE_CHECKING:
    from ml.jobs.store import JobStore

__all__ = ["thinned_events"]

#: Of each curve in each part.
_KEPT = 2
#: Of the events that tell no progress. The first ones say what a job is about to do.
_FIRST, _NEWEST = 100, 500
#: Events of progress at the end that all stay, for those who read them one by one.
_RECENT = 300
#: Read at once; some ten milliseconds of work.
_PAGE = 5000

#: Ids, and for each the numbers of the curves and the step (float64; NaN where there is none).
_Progress = tuple[NDArray[np.int64], NDArray[np.float64]]


async def thinned_events(
    store: JobStore, job_id: str, after: int, last: int, most: int
) -> list[JobEvent]:
    """Return those of the events behind `after` up to `last` that are shown, oldest first.

    They have at most `most` events of progress, beside those with which a job goes back some
    steps because it was resumed: whoever draws them forgets the steps from there on.
    """
    width = _width(last - after, most)
    stretches: list[Stretch] = []
    if width >= LENGTH:
        texts = await store.raw_stretches(job_id, after, last)
        stretches = await asyncio.to_thread(_before_recent, texts)
    pages = [await asyncio.to_thread(_progress_of, stretches)]
    others = [np.array([id_ for one in stretches for id_ in one.others], dtype=np.int64)]
    for first, end in _pages(after, last, [one.number for one in stretches]):
        page = await store.raw_events(job_id, EventType.PROGRESS, first, end)
        pages.append(await asyncio.to_thread(_read, *page))
        others.append(np.setdiff1d(np.arange(first + 1, end + 1), pages[-1][0]))
    told = np.sort(np.concatenate(others))
    shown = await asyncio.to_thread(_shown, pages, most, width)
    kept = [shown, told[:_FIRST], told[_FIRST:][-_NEWEST:]]
    return list(await store.events_by_id(job_id, np.concatenate(kept).tolist()))


def _width(events: int, most: int) -> int:
    """Return how many events a part has; it is whole stretches, if it is longer than one."""
    parts = (most - _RECENT - 1) // (_KEPT * len(CURVES)) - 1  # one more where the first is cut
    width = -(-events // max(1, parts))
    return width if width < LENGTH else LENGTH * -(-width // LENGTH)


def _before_recent(texts: Texts) -> list[Stretch]:
    """Return the stretches without those at the end that have the events which all stay."""
    before = read_stretches(texts)
    recent = 0
    while before and recent < _RECENT:
        recent += LENGTH - len(before.pop().others)
    return before


def _pages(after: int, last: int, numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Yield the ids behind which and up to which events are in none of these stretches."""
    starts = [number * LENGTH for number in numbers]
    ends = [start + LENGTH for start in starts]
    for gap, end in zip([after, *ends], [*starts, last], strict=True):
        for first in range(gap, end, _PAGE):
            yield first, min(first + _PAGE, end)


def _progress_of(stretches: list[Stretch]) -> _Progress:
    points = [point for one in stretches for point in one.points]
    return np.array([point["id"] for point in points], dtype=np.int64), _columns(points)


def _read(ids: str, data: str) -> _Progress:
    return np.array(orjson.loads(f"[{ids}]"), dtype=np.int64), _columns(orjson.loads(f"[{data}]"))


def _columns(rows: list[dict[str, Any]]) -> NDArray[np.float64]:
    return np.stack([_column([row.get(name) for row in rows]) for name in (*CURVES, STEP)])


def _column(values: list[Any]) -> NDArray[np.float64]:
    """Return numbers; whatever is none is NaN."""
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        return np.array([one if isinstance(one, int | float) else np.nan for one in values])


def _shown(pages: list[_Progress], most: int, width: int) -> NDArray[np.int64]:
    """Return the ids of the events of progress that stay, without an order."""
    ids, columns = (np.concatenate(parts, axis=-1) for parts in zip(*pages, strict=True))
    order = np.argsort(ids)
    ids, columns = ids[order], columns[:, order]
    if len(ids) <= most:
        return ids
    *curves, steps = columns
    goes_back = 1 + np.flatnonzero(np.diff(steps) < 0)
    recent = np.arange(len(ids) - _RECENT, len(ids))
    kept = [goes_back, np.array([0]), recent]
    starts = np.flatnonzero(np.diff((ids - 1) // width, prepend=-1))
    part = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(ids)))
    for curve in curves:
        for sign in (1, -1):  # the lowest, and the highest
            values = np.where(np.isnan(curve), np.inf, sign * curve)
            lowest = np.minimum.reduceat(values, starts)
            at = np.flatnonzero((values == lowest[part]) & np.isfinite(values))
            kept.append(at[np.unique(part[at], return_index=True)[1]])
    shown: NDArray[np.int64] = ids[np.unique(np.concatenate(kept))]
    return shown
