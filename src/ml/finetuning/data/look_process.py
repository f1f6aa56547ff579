"""A look at training data in a process of its own: what strangers wrote is read with limits.

    python -m ml.finetuning.data.look_process < question.json

The answer is the report as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from ml.errors import UnprocessableInput
from ml.finetuning.data.report import DataReport
from ml.finetuning.limited import answer, ask, limit_resources
from ml.finetuning.request import FinetuningRequest

__all__ = ["look"]

_MODULE = "ml.finetuning.data.look_process"
_SECONDS = 120.0
_MOST_MEMORY_BYTES = 4 * 1024**3
_MOST_FILE_BYTES = 4 * 1024**3  # of what is kept of a model of the hub


def look(
    request: FinetuningRequest, root: Path, tuned: Path, check: Callable[[], None]
) -> DataReport:
    """Return what training would find in a request's data set, a file under `root` or of the hub.

    `tuned` is where the tuned models lie that training may go on from. `check` is called now and
    then; what it raises ends the look. Raises what `ml.finetuning.data.source` and
    `prepare.examine` raise.
    """
    question = {"request": request.model_dump(mode="json"), "root": str(root), "tuned": str(tuned)}
    too_long = "the data took too long to look at; give fewer rows, or a simpler chat_template"
    told = ask(_MODULE, json.dumps(question), seconds=_SECONDS, too_long=too_long, check=check)
    return DataReport.model_validate_json(told)


def _look(request: FinetuningRequest, root: Path, tuned: Path) -> str:
    from ml.finetuning.data.prepare import examine
    from ml.finetuning.data.row import Look
    from ml.finetuning.data.source import open_dataset
    from ml.finetuning.data.tokenizer import load_tokenizer
    from ml.finetuning.start import Start

    source = open_dataset(str(request.dataset_name), root, Look())
    start = Start.of(request.model_name, tuned)
    tokenizer, shape = load_tokenizer(start.base, request.chat_template, adapter=start.adapter)
    try:
        return examine(source, request, tokenizer, shape).report.model_dump_json()
    except MemoryError:
        raise UnprocessableInput("the data takes too much memory; give fewer rows") from None


def main() -> int:
    """Answer the question on the standard input."""
    question = json.load(sys.stdin)
    limit_resources(
        memory_bytes=_MOST_MEMORY_BYTES, file_bytes=_MOST_FILE_BYTES, cpu_seconds=_SECONDS
    )
    sys.modules["torch"] = None  # type: ignore[assignment]  # tokenizers do without, and start fast
    request = FinetuningRequest.model_validate(question["request"])
    return answer(lambda: _look(request, Path(question["root"]), Path(question["tuned"])))


if __name__ == "__main__":
    sys.exit(main())
