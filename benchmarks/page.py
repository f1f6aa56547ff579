"""Writes `benchmarks/README.md` from `page.md`, the prose, and `results.json`, the figures.

    python -m benchmarks.page [--take FILE]

`--take` first brings over what a run on another machine wrote, such as `benchmarks/gpu.sh`. In the
prose, `{{ section("codecs") }}` is all that was measured of it, and `{{ figure("codecs", "ABI
tensors", "ieee, 69 values: encode", "ratio") }}` one figure, by its table, row and column.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Mapping
from pathlib import Path

import jinja2

from benchmarks.capacity import machines, writes
from benchmarks.results import Cell, Record, read_results, take
from benchmarks.targets import TARGETS, Target

__all__ = ["PAGE", "PROSE", "page"]

PAGE = Path(__file__).with_name("README.md")
PROSE = Path(__file__).with_name("page.md")


def page() -> str:
    """Return the whole page.

    Raises `jinja2.UndefinedError` or `LookupError` where the prose or a target names figures that
    were not measured.
    """
    sections = read_results()
    prose = jinja2.Environment(  # noqa: S701 (it writes Markdown of our own words)
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    ).from_string(PROSE.read_text(encoding="utf-8"))
    used: set[str] = set()

    def section(name: str) -> str:
        used.add(name)
        return _section(sections[name])

    def figure(name: str, table: str, row: str, column: str) -> Cell:
        return sections[name].named(table).cell(row, column)

    text = prose.render(
        targets=_targets(sections),
        section=section,
        figure=figure,
        writes=writes(sections).markdown(),
        machines=machines(sections).markdown(),
    )
    if missing := sections.keys() - used:
        raise LookupError(f"{PROSE.name} has no place for {', '.join(sorted(missing))}")
    return text


def _targets(sections: Mapping[str, Record]) -> str:
    lines = ["| what | target | measured | |", "|---|---|---|---|"]
    groups: dict[str, list[Target]] = {}
    for target in TARGETS:
        groups.setdefault(target.words, []).append(target)
    lines += [_line(words, group, sections) for words, group in groups.items()]
    return "\n".join(lines)


def _line(words: str, group: list[Target], sections: Mapping[str, Record]) -> str:
    bounds: dict[str, list[str]] = {}
    measured, verdicts = [], {}
    for target in group:
        figure = target.figure(sections)
        bound = f"{target.sign} {target.bound:g} {figure.unit}".rstrip()
        bounds.setdefault(bound, []).append(target.point)
        measured.append(f"{target.point}: {figure}" if target.point else str(figure))
        verdicts[target.point] = target.verdict(figure)
    if len(bounds) == 1:
        due = next(iter(bounds))
    else:
        due = "; ".join(f"{', '.join(points)} {bound}" for bound, points in bounds.items())
    return f"| {words} | {due} | {'; '.join(measured)} | {_in_words(verdicts)} |"


def _in_words(verdicts: Mapping[str, str]) -> str:
    """Return one verdict for all points, or the points of each."""
    points: dict[str, list[str]] = {}
    for point, verdict in verdicts.items():
        points.setdefault(verdict, []).append(point)
    if len(points) == 1:
        return next(iter(points))
    return "; ".join(f"{verdict}: {', '.join(at)}" for verdict, at in points.items())


def _section(record: Record) -> str:
    return "\n\n".join([_origin(record), *(table.markdown() for table in record.tables)])


def _origin(record: Record) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    commit = f", commit {record.commit}" if record.commit else ""
    return f"*{_day(record.date)}{commit}: `{record.command}`; {record.machine}; {versions}.*"


def _day(date: str) -> str:
    day = datetime.date.fromisoformat(date)
    return f"{day.day} {day:%B %Y}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.page", description=__doc__.partition("\n")[0])
    parser.add_argument("--take", type=Path, metavar="FILE", help="results of another machine")
    taken = parser.parse_args().take
    if taken is not None:
        if not taken.is_file():
            parser.error(f"there is no file {taken}")
        take(taken)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
