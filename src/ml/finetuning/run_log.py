"""The files with a run's numbers: `training_logs.jsonl`, as documented, and `metrics.csv`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["LOG_FILE", "METRICS_FILE", "RunLog", "entries_of"]

LOG_FILE = "training_logs.jsonl"
METRICS_FILE = "metrics.csv"
_COLUMNS = (
    "step",
    "epoch",
    "loss",
    "eval_loss",
    "learning_rate",
    "grad_norm",
    "step_time",
    "token_accuracy",
    "eval_token_accuracy",
)


class RunLog:
    """Writes both files in several folders at once, a line for each logged step.

    A run that goes on from a step keeps the lines up to it and writes those after it anew, so
    that the files read as if it had never been interrupted.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = tuple(folders)

    def begin(self, *, after_step: int) -> None:
        """Keep what the first folder has up to a step, in all folders; 0 keeps nothing."""
        kept = self._kept(after_step)
        for folder in self._folders:
            for name, text in kept.items():
                (folder / name).write_text(text)

    def add_step(self, numbers: Mapping[str, Any]) -> None:
        """Add a training step with `step`, `epoch`, `step_time`, `learning_rate`, `loss`, …."""
        line = {
            "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            "type": "training_step",
            "level": "INFO",
            "message": f"Step {numbers['step']} completed",
            "step": numbers["step"],
            "epoch": numbers["epoch"],
            "step_time": numbers["step_time"],
            "learning_rate": numbers["learning_rate"],
            "loss": numbers["loss"],
            "grad_norm": numbers["grad_norm"],
        }
        self._append(LOG_FILE, json.dumps(line) + "\n")
        self._append(METRICS_FILE, _row(numbers.get(column) for column in _COLUMNS))

    def add_evaluation(self, numbers: Mapping[str, Any]) -> None:
        """Add an evaluation with `step`, `epoch` and `eval_loss`, to the metrics alone."""
        self._append(METRICS_FILE, _row(numbers.get(column) for column in _COLUMNS))

    def newest(self, number: int) -> list[dict[str, Any]]:
        """Return so many of the newest training steps in the first folder, oldest first."""
        return entries_of("".join(self._whole_lines(LOG_FILE)[-number:]))

    def _append(self, name: str, text: str) -> None:
        for folder in self._folders:
            with (folder / name).open("a") as file:
                file.write(text)

    def _kept(self, step: int) -> dict[str, str]:
        logged, measured = self._whole_lines(LOG_FILE), self._whole_lines(METRICS_FILE)[1:]
        rows = (line for line in measured if int(line.partition(",")[0]) <= step)
        return {
            LOG_FILE: "".join(line for line in logged if json.loads(line)["step"] <= step),
            METRICS_FILE: _row(_COLUMNS) + "".join(rows),
        }

    def _whole_lines(self, name: str) -> list[str]:
        """Return a file's lines, without one in whose middle the process died."""
        path = self._folders[0] / name
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [line for line in lines if line.endswith("\n")]


def entries_of(text: str) -> list[dict[str, Any]]:
    """Return the training steps in the text of a log file, oldest first."""
    return [json.loads(line) for line in text.splitlines()]


def _row(values: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow("" if v is None else v for v in values)
    return text.getvalue()
