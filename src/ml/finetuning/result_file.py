"""The numbers of a run as OpenAI's API gives them: a table, step by step.

Source: OpenAI's guide "Supervised fine-tuning", the columns of its results file.
"""

from __future__ import annotations

import csv
from pathlib import Path

__all__ = ["RESULT_FILE", "write_results"]

RESULT_FILE = "step_metrics.csv"
#: The columns, by their names in a run's own table.
_COLUMNS = {
    "step": "step",
    "loss": "train_loss",
    "token_accuracy": "train_accuracy",
    "eval_loss": "valid_loss",
    "eval_token_accuracy": "valid_mean_token_accuracy",
}


def write_results(metrics: Path, target: Path) -> None:
    """Write a run's table of metrics with a row for each step, whose evaluation is in it."""
    rows: dict[str, dict[str, str]] = {}
    with metrics.open(newline="") as source:
        for line in csv.DictReader(source):
            row = rows.setdefault(line["step"], {})
            row.update(
                {
                    _COLUMNS[name]: value
                    for name, value in line.items()
                    if name in _COLUMNS and value
                }
            )
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(_COLUMNS.values()), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows.values())
