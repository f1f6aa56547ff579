"""The page of the benchmarks says what their runs wrote down."""

import math
import re
from pathlib import Path

import pytest

from benchmarks.figures import Figure
from benchmarks.page import PAGE, PROSE, page
from benchmarks.results import read_results, recording, take
from benchmarks.targets import Target


def test_page_is_what_the_results_and_the_prose_make() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m benchmarks.page"


#: A number with a unit of what is measured.
_MEASURED = re.compile(
    r"\d[\d.,–]* ?"
    r"(?:[mµ]?s|[KMG]i?B(?:/s)?|/s|%|x|times|(?:milli)?seconds?|(?:\w+ )?a second)(?!\w)"
)
#: What is set, and not found.
_SET = {
    "limits of 3 s for bodies": "the service's settings in the attacks",
    "asked 20 times a second": "how often the probe asks",
    "cut after 12 s": "the longest an answer is waited for",
    "arrivals at 2/s for 12 s": "the open loop's rate and length",
    "an upstream of 20 ms": "how long the scripted upstream takes",
    "537 MB of float32": "the model that is made for it",
    "at 70 % of it": "the load that machines are reckoned for",
}


def test_prose_has_no_measured_figure_of_its_own() -> None:
    prose = PROSE.read_text(encoding="utf-8")
    for said in _SET:
        assert said in prose, "it is said no more"
        prose = prose.replace(said, "")
    written = re.sub(r"```.*?```|`[^`]*`|\{\{.*?\}\}|\{%.*?%\}", "", prose, flags=re.DOTALL)
    assert [match[0] for match in _MEASURED.finditer(written)] == []


@pytest.mark.parametrize(
    "text", ["46–58 ms", "3 s", "1.56 x", "27 %", "980 MB", "97 requests a second"]
)
def test_measured_figure_is_known_by_its_unit(text: str) -> None:
    assert _MEASURED.search(f"it had {text}, and more")


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
    assert _rates(file) == {"one": "3.00", "other": "2.00"}


def test_results_of_another_machine_come_in_place_of_those_of_their_sections(
    tmp_path: Path,
) -> None:
    here, there = tmp_path / "here.json", tmp_path / "there.json"
    for file, section, rate in ((here, "gpu", 1.0), (here, "other", 2.0), (there, "gpu", 3.0)):
        with recording(section, file) as record:
            record.table("server", "requests per second").row("ours", Figure.of(rate))
    take(there, here)
    assert _rates(here) == {"gpu": "3.00", "other": "2.00"}


def _rates(file: Path) -> dict[str, str]:
    return {
        name: str(record.named("server").cell("ours", "requests per second"))
        for name, record in read_results(file).items()
    }


def test_run_that_fails_leaves_the_results_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    with recording("section", file) as record:
        record.table("server", "requests per second").row("ours", Figure.of(1.0))
    before = file.read_bytes()
    with pytest.raises(RuntimeError), recording("section", file):
        raise RuntimeError
    assert file.read_bytes() == before
