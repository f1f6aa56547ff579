"""What the benchmarks measured: one file, `results.json`, with a part for each section.

    with recording("codecs") as record:
        table = record.table("ABI tensors", "peer", "ours", "ratio")
        table.row("ieee, 69 values: encode", Figure.of(0.268, places=3, unit="ms"), …)

Rows are printed as they come. What was measured is written once the section is whole; a section
that fails leaves the file as it was. `python -m benchmarks.page` makes the page of it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks.figures import Figure

__all__ = [
    "RESULTS",
    "Cell",
    "Record",
    "Table",
    "read_results",
    "recording",
    "take",
    "write_results",
]

RESULTS = Path(__file__).with_name("results.json")
#: Those whose versions stand beside the figures, where they are installed.
_PACKAGES = ("torch", "granian", "hypercorn", "quart", "openvino-genai", "onnxruntime", "xgboost")

Cell = str | Figure


@dataclass
class Table:
    """Rows of figures; the first cell of each is its name."""

    title: str
    columns: list[str]
    rows: list[list[Cell]] = field(default_factory=list)

    def row(self, name: str, *cells: Cell) -> None:
        """Add a row, and print it."""
        self.rows.append([name, *cells])
        print(_line([name, *cells]), flush=True)

    def cell(self, row: str, column: str) -> Cell:
        """Return what stands in a row below a column; raises `LookupError`."""
        place = self.columns.index(column) + 1
        for cells in self.rows:
            if cells[0] == row:
                return cells[place]
        raise LookupError(f"{self.title}: no row {row}")

    def head(self) -> str:
        """Return the first two lines of Markdown."""
        return f"{_line([self.title, *self.columns])}\n|{'---|' * (len(self.columns) + 1)}"

    def markdown(self) -> str:
        """Return it as Markdown."""
        return "\n".join([self.head(), *map(_line, self.rows)])

    @classmethod
    def from_json(cls, form: dict[str, Any]) -> Self:
        """Return what `to_json` made."""
        rows = [
            [cell if isinstance(cell, str) else Figure.from_json(cell) for cell in row]
            for row in form["rows"]
        ]
        return cls(form["title"], form["columns"], rows)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        rows = [[c.to_json() if isinstance(c, Figure) else c for c in row] for row in self.rows]
        return {"title": self.title, "columns": self.columns, "rows": rows}


@dataclass
class Record:
    """A section's tables, and what they were measured with."""

    date: str
    command: str
    commit: str
    machine: str
    versions: dict[str, str]
    tables: list[Table] = field(default_factory=list)

    @classmethod
    def begin(cls) -> Self:
        """Return an empty record of this moment, this machine and what is installed."""
        words = [Path(sys.argv[0]).stem, *sys.argv[1:]]
        return cls(
            date=time.strftime("%Y-%m-%d"),
            command=f"python -m benchmarks.{shlex.join(words)}",
            commit=_commit(),
            machine=f"{os.cpu_count()} processors, {_processor()}",
            versions={"python": platform.python_version(), **_versions()},
        )

    def table(self, title: str, *columns: str) -> Table:
        """Begin a table, and print its head."""
        table = Table(title, list(columns))
        self.tables.append(table)
        print(f"\n{table.head()}", flush=True)
        return table

    def named(self, title: str) -> Table:
        """Return a table by its title; raises `LookupError`."""
        for table in self.tables:
            if table.title == title:
                return table
        raise LookupError(f"no table {title}")

    @classmethod
    def from_json(cls, form: dict[str, Any]) -> Self:
        """Return what `to_json` made."""
        tables = [Table.from_json(table) for table in form["tables"]]
        return cls(**(form | {"tables": tables}))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return vars(self) | {"tables": [table.to_json() for table in self.tables]}


@contextlib.contextmanager
def recording(section: str, file: Path = RESULTS) -> Iterator[Record]:
    """Keep what the block measures as a section of the file, in place of what stands there."""
    record = Record.begin()
    yield record
    write_results(read_results(file) | {section: record}, file)


def read_results(file: Path = RESULTS) -> dict[str, Record]:
    """Return the sections of the file by name; none where there is no file."""
    if not file.exists():
        return {}
    form = json.loads(file.read_text(encoding="utf-8"))
    return {name: Record.from_json(section) for name, section in form.items()}


def write_results(sections: Mapping[str, Record], file: Path = RESULTS) -> None:
    """Write a file that has these sections and no others."""
    form = {name: one.to_json() for name, one in sorted(sections.items())}
    file.write_text(json.dumps(form, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def take(file: Path, into: Path = RESULTS) -> None:
    """Bring over the sections that a run on another machine wrote, in place of those here."""
    write_results(read_results(into) | read_results(file), into)


def _line(cells: list[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _commit() -> str:
    git = ["git", "-C", str(RESULTS.parent)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        )
        changed = subprocess.run(
            [*git, "diff", "--quiet", "HEAD", "--", "..", ":(exclude)*.json"], check=False
        )
    except OSError:
        return ""
    return head.stdout.strip() + (" and changes" if changed.returncode else "")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
