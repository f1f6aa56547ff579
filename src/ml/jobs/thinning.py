"""The events of a long job, as few as its charts can show.

A chart has some hundred places from left to right, a job hundreds of thousands of steps. So the
events of its progress are divided into stretches of as many events each, and of each stretch
those stay which have the lowest and the highest value of a curve: no peak and no dip is lost,
which an even sample or a mean would do. What stays are events as they were, with their ids.
Of the other events the first and the newest stay.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ml.jobs.event_type import EventType
from ml.jobs.job import JobEvent

if TYPE_CHECKING:
    from ml.jobs.store import JobStore

__all__ = ["thinned_events"]

#: The numbers of progress that are drawn over the steps.
_CURVES = ("loss", "eval_loss", "grad_norm", "memory_bytes", "gpu_memory_bytes")
_STEP = "step"
#: Of each curve in each stretch.
_KEPT = 2
#: Of the events that tell no progress. The first ones say what a job is about to do.
_FIRST, _NEWEST = 100, 500
#: Events of progress at the end that all stay, for those who read them one by one.
_RECENT = 300
#: Read at once; some ten milliseconds of work.
_PAGE = 5000


async def thinned_events(
    store: JobStore, job_id: str, after: int, last: int, most: int
) -> list[JobEvent]:
    """Return those of the events behind `after` up to `last` that are shown, oldest first.

    They have at most `most` events of progress, beside those with which a job goes back some
    steps because it was resumed: whoever draws them forgets the steps from there on.
    """
    pages = []
    for first in range(after, last, _PAGE):
        end = min(first + _PAGE, last)
        texts = await store.raw_events(job_id, EventType.PROGRESS, first, end)
        pages.append(await asyncio.to_thread(_numbers, *texts))
    ids, columns = (np.concatenate(parts, axis=-1) for parts in zip(*pages, strict=True))
    others = np.setdiff1d(np.arange(after + 1, last + 1), ids, assume_unique=True)
    kept = [_shown(ids, columns, most), others[:_FIRST], others[_FIRST:][-_NEWEST:]]
    return list(await store.events_by_id(job_id, np.concatenate(kept).tolist()))


def _numbers(ids: str, data: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return ids in order, and for each the numbers of the curves and the step (float64)."""
    rows = orjson.loads(f"[{data}]")
    columns = [_column([row.get(name) for row in rows]) for name in (*_CURVES, _STEP)]
    numbers = np.array(orjson.loads(f"[{ids}]"), dtype=np.int64)
    order = np.argsort(numbers)  # a database need not keep it where it joins texts
    return numbers[order], np.stack(columns)[:, order]


def _column(values: list[Any]) -> NDArray[np.float64]:
    """Return numbers; whatever is none is NaN."""
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        return np.array([one if isinstance(one, int | float) else np.nan for one in values])


def _shown(ids: NDArray[np.int64], columns: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Return the ids of the events of progress that stay, without an order."""
    if len(ids) <= most:
        return ids
    *curves, steps = columns
    goes_back = 1 + np.flatnonzero(np.diff(steps) < 0)
    recent = np.arange(len(ids) - _RECENT, len(ids))
    kept = [goes_back, np.array([0]), recent]
    stretches = max(1, (most - _RECENT - 1) // (_KEPT * len(_CURVES)))
    width = -(-len(ids) // stretches)
    for curve in curves:
        for sign in (1, -1):  # the lowest, and the highest
            padded = np.full(stretches * width, np.inf)
            padded[: len(curve)] = np.where(np.isnan(curve), np.inf, sign * curve)
            table = padded.reshape(stretches, width)
            at = table.argmin(axis=1)
            is_there = np.isfinite(table[np.arange(stretches), at])
            kept.append((np.arange(stretches) * width + at)[is_there])
    shown: NDArray[np.int64] = ids[np.unique(np.concatenate(kept))]
    return shown
