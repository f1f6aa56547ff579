"""Several inputs in one run of a model, and the proof that it may be done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from types import ModuleType
from typing import Any

import structlog

from ml.errors import OutOfMemory

__all__ = ["RowBatching"]

log = structlog.get_logger(__name__)

#: Of numpy or of torch, which have no type in common.
AnyArray = Any
#: The arrays of one request; most models take one.
Item = tuple[AnyArray, ...]

#: Relative to an output's largest value: far over what rounding differs between batch sizes, far
#: under what a model does that mixes rows. By element size in bytes; 2 is half and bfloat16.
_TOLERANCE = {2: 0.05, 4: 1e-3, 8: 1e-6}


class RowBatching:
    """Runs requests that differ in their number of rows only as one.

    The first such run is compared with single runs: a model that mixes rows runs singly from then
    on.

    Attributes:
        run: the model, on one item.
        library: numpy or torch, the one whose arrays the items and the outputs are.
        model: its name in the log.
        may_batch: whether several requests may be one run.
    """

    def __init__(
        self,
        run: Callable[[Item], object],
        library: ModuleType,
        *,
        model: str,
        may_batch: bool = True,
    ) -> None:
        self.run = run
        self.library = library
        self.model = model
        self.may_batch = may_batch
        self._is_proved = False

    def run_all(self, items: Sequence[Item]) -> list[object]:
        """Return the outputs of several items, or the exceptions that these alone fail with."""
        outputs: list[object] = [None] * len(items)
        for positions in _group_alike(items):
            group = [items[position] for position in positions]
            for position, output in zip(positions, self._run_group(group), strict=True):
                outputs[position] = output
        return outputs

    def _run_group(self, items: list[Item]) -> Sequence[object]:
        if len(items) == 1 or not self.may_batch:
            return self._run_singly(items)
        try:
            together = self._run_together(items)
        except Exception as error:
            return self._run_after_failure(items, error)
        if together is None:
            self._stop("its output does not have the rows of its input")
            return self._run_singly(items)
        return together if self._is_proved else self._prove(items, together)

    def _run_singly(self, items: list[Item]) -> list[object]:
        return [self._attempt(item) for item in items]

    def _attempt(self, item: Item) -> object:
        try:
            return self.run(item)
        except Exception as error:
            return error

    def _run_together(self, items: list[Item]) -> Sequence[object] | None:
        joined = tuple(map(self.library.concatenate, zip(*items, strict=True)))
        return _split_rows(self.run(joined), [item[0].shape[0] for item in items])

    def _run_after_failure(self, items: list[Item], error: Exception) -> list[object]:
        outputs = self._run_singly(items)
        failed = any(isinstance(output, Exception) for output in outputs)
        if not failed and not isinstance(error, OutOfMemory):
            self._stop("it takes these inputs one by one only")
        return outputs

    def _prove(self, items: list[Item], together: Sequence[object]) -> list[object]:
        """Return the single runs' outputs, and learn from them whether batches give the same."""
        alone = self._run_singly(items)
        if any(isinstance(output, Exception) for output in alone):
            return alone
        if not self._all_close(alone, together):
            self._stop("its answer for a row depends on the other rows")
        elif any(_differ(items[0], item) for item in items[1:]):
            self._is_proved = True
        else:
            self._prove_with_variation(items[0], alone[0])
        return alone

    def _prove_with_variation(self, item: Item, alone: object) -> None:
        # Rows that are all the same would hide that they are mixed; reversed ones stay legal.
        varied = tuple(self.library.flip(array, (-1,)) for array in item)
        if not _differ(item, varied):
            return
        try:
            together = self._run_together([item, varied])
            also_alone = self.run(varied)
        except Exception:  # no input a caller sent: the next batch may tell
            return
        if together is None or not self._all_close([alone, also_alone], together):
            self._stop("its answer for a row depends on the other rows")
        else:
            self._is_proved = True

    def _stop(self, reason: str) -> None:
        self.may_batch = False
        log.warning("batching_off", model=self.model, reason=reason)

    def _all_close(self, one: object, other: object) -> bool:
        """Return whether two outputs are the same but for rounding; NaN equals NaN."""
        if hasattr(one, "shape"):
            return self._close(one, other)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            return one.keys() == other.keys() and all(
                self._all_close(one[key], other[key]) for key in one
            )
        if isinstance(one, list | tuple) and isinstance(other, list | tuple):
            return len(one) == len(other) and all(map(self._all_close, one, other))
        return False

    def _close(self, one: AnyArray, other: AnyArray) -> bool:
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        if not _is_inexact(one.dtype):
            return bool((one == other).all())
        finite = abs(one[self.library.isfinite(one)])
        largest = float(finite.max()) if finite.shape[0] else 0.0
        tolerance = _TOLERANCE[one.real.dtype.itemsize] * largest
        return bool(self.library.allclose(one, other, rtol=0.0, atol=tolerance, equal_nan=True))


def _group_alike(items: Sequence[Item]) -> list[list[int]]:
    """Return the positions of items that differ in their first dimension only, group by group.

    An array of less than two dimensions has no rows, so its item stays alone.
    """
    groups: dict[object, list[int]] = defaultdict(list)
    for position, item in enumerate(items):
        groups[_form(item) or position].append(position)
    return list(groups.values())


def _form(item: Item) -> object:
    """Return all but the rows of an item; None where its arrays do not have the same rows."""
    first = item[0]
    if first.ndim < 2:
        return None
    if len(item) == 1:
        return first.dtype, first.shape[1:]
    if any(array.ndim < 1 or array.shape[0] != first.shape[0] for array in item):
        return None
    return tuple((array.dtype, array.shape[1:]) for array in item)


def _split_rows(output: object, sizes: list[int]) -> Sequence[object] | None:
    """Return the output for each input of `sizes` rows; None if it does not have the same rows.

    Tuples, lists and dicts of arrays are split within.
    """
    if hasattr(output, "shape"):
        if not output.shape or output.shape[0] != sum(sizes):
            return None
        return _split(output, sizes)
    if isinstance(output, Mapping):
        rows = _split_all(list(output.values()), sizes)
        return rows and [dict(zip(output, row, strict=True)) for row in rows]
    if isinstance(output, list | tuple):
        return _split_all(output, sizes)
    return None


def _split_all(outputs: Sequence[object], sizes: list[int]) -> list[list[object]] | None:
    columns = [_split_rows(output, sizes) for output in outputs]
    if not columns or any(column is None for column in columns):
        return None
    return [list(row) for row in zip(*filter(None, columns), strict=True)]


def _split(array: AnyArray, sizes: list[int]) -> list[object]:
    if hasattr(array, "split"):  # torch's, one call for all
        return list(array.split(sizes))
    ends = list(accumulate(sizes))
    return [array[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def _differ(one: Item, other: Item) -> bool:
    return any(a.shape != b.shape or bool((a != b).any()) for a, b in zip(one, other, strict=True))


def _is_inexact(dtype: Any) -> bool:
    if hasattr(dtype, "kind"):
        return dtype.kind in "fc"
    return bool(dtype.is_floating_point or dtype.is_complex)
