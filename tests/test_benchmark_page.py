"""The page of the benchmarks says what their runs wrote down."""

import math
from pathlib import Path

import pytest

from benchmarks.figures import Figure
from benchmarks.page import PAGE, page
from benchmarks.results import read_results, recording
from benchmarks.targets import Target


def test_page_is_what_the_results_and_the_prose_make() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m benchmarks.page"


@pytest.mark.parametrize(
    ("rounds", "verdict"),
    [
        ((1.7, 1.6, 1.9), "reached"),
        ((1.5, 1.7, 1.9), "reached, within the spread"),
        ((1.5, 1.4, 1.7), "**missed**, within the spread"),
        ((1.5, 1.4, 1.3), "**missed**"),
    ],
)
def test_verdict_is_of_the_median_and_says_when_the_rounds_do_not_decide(
    rounds: tuple[float, ...], verdict: str
) -> None:
    assert Target("", "", "≥", 1.6, "", "", "", "").verdict(Figure.of(*rounds)) == verdict


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Figure.of(1.234, 1.5, 1.1), "1.23 (1.10–1.50)"),
        (Figure.of(28.44, places=1, unit="ms"), "28.4 ms"),
        (Figure.of(70.0, places=0, unit="%"), "70%"),
        (Figure.of(math.inf, unit="s"), "cut"),
    ],
)
def test_figure_is_written_with_its_spread_and_read_back(figure: Figure, text: str) -> None:
    assert str(figure) == text
    assert str(Figure.from_json(figure.to_json())) == text


def test_run_replaces_its_own_section_alone(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    for section, rate in (("one", 1.0), ("other", 2.0), ("one", 3.0)):
        with recording(section, file) as record:
            record.table("server", "requests per second").row("ours", Figure.of(rate))
    found = {
        name: str(record.named("server").cell("ours", "requests per second"))
        for name, record in read_results(file).items()
    }
    assert found == {"one": "3.00", "other": "2.00"}


def test_run_that_fails_leaves_the_results_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    with recording("section", file) as record:
        record.table("server", "requests per second").row("ours", Figure.of(1.0))
    before = file.read_bytes()
    with pytest.raises(RuntimeError), recording("section", file):
        raise RuntimeError
    assert file.read_bytes() == before
