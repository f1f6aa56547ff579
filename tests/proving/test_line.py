"""Who waits for a worker, and whether a proof fits behind them."""

from __future__ import annotations

import pytest

from ml.errors import DeadlineExceeded
from ml.proving.line import DoesNotFit, Line


def test_a_proof_fits_until_those_before_it_take_too_long() -> None:
    line = Line()
    with line.place(2.0, 5.0), line.place(3.0, 5.0):
        with pytest.raises(DoesNotFit, match=r"in 6 s after those before it; this request has 5 s"):
            line.place(1.0, 5.0).__enter__()
        with line.place(1.0, 6.0):
            pass
    with line.place(5.0, 5.0):
        pass


def test_who_has_left_is_not_counted_whatever_the_order() -> None:
    line = Line()
    first, second = line.place(0.1, 1.0), line.place(0.2, 1.0)
    for place in (first, second):
        place.__enter__()
    for place in (first, second):
        place.__exit__(None, None, None)
    with pytest.raises(DoesNotFit, match=r"in 2 s; this request has 1 s"):
        line.place(2.0, 1.0).__enter__()


def test_a_proof_that_fails_gives_its_place_back() -> None:
    line = Line()
    with pytest.raises(KeyError), line.place(5.0, 5.0):
        raise KeyError
    with line.place(5.0, 5.0):
        pass


def test_what_does_not_fit_is_late_for_its_caller() -> None:
    with pytest.raises(DeadlineExceeded, match=r"in 2 s; this request has 0 s"):
        Line().place(2.0, -1.0).__enter__()
