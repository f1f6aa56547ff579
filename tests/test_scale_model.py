"""The model of the queue is what the formulas and the benchmarks' page say."""

from __future__ import annotations

import math

import pytest

from benchmarks.figures import Figure
from benchmarks.results import read_results
from benchmarks.scale import (
    DAY,
    JOBS_A_DAY,
    SPREAD,
    Load,
    erlang_wait,
    job_seconds,
    simulate,
    slots_needed,
)


def test_with_one_slot_the_formula_is_that_of_pollaczek_and_khinchine() -> None:
    load = Load(rate=0.001, mean=600.0)
    squares = load.mean**2 * math.exp(SPREAD**2)
    assert erlang_wait(load, 1) == pytest.approx(load.rate * squares / (2 * (1 - load.running)))


#: For several slots the formula is an approximation, whose error grows with their number.
@pytest.mark.parametrize(
    ("rate", "slots", "error"), [(0.001, 1, 0.1), (0.004, 4, 0.2), (0.05, 40, 0.4)]
)
def test_the_simulation_finds_the_wait_of_the_formula(
    rate: float, slots: int, error: float
) -> None:
    load = Load(rate, 600.0)
    seen = simulate(load, slots, jobs=300_000, seed=1)
    assert seen.mean == pytest.approx(erlang_wait(load, slots), rel=error)
    assert seen.busy == pytest.approx(load.running / slots, rel=0.05)
    assert seen.median <= seen.mean <= seen.p99


def test_more_jobs_than_slots_never_get_through() -> None:
    load = Load(0.01, 600.0)
    assert erlang_wait(load, 6) == math.inf
    assert slots_needed(load) > 6
    assert simulate(load, 5, jobs=20_000, seed=1).busy == pytest.approx(1.0, abs=0.02)


def test_the_page_has_the_slots_of_the_formula() -> None:
    [table] = read_results()["scale"].tables
    for number in JOBS_A_DAY:
        slots = slots_needed(Load(number / DAY, job_seconds(600)))
        assert table.cell(str(number), "slots") == Figure.of(slots, places=0)
