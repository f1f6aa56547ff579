"""The embedded model's tokenizer, also with the chat templates of other families."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ml.finetuning.data.prepare import TrainingData, examine
from ml.finetuning.data.source import open_dataset
from ml.finetuning.data.tokenizer import load_tokenizer
from ml.finetuning.request import FinetuningRequest
from ml.models.embedded_llm import EMBEDDED_LLM
from tests.finetuning.data.templates import TEMPLATES

Examine = Callable[..., TrainingData]


@pytest.fixture(scope="session")
def embedded() -> Any:
    return load_tokenizer(EMBEDDED_LLM)[0]


@pytest.fixture(scope="session")
def tokenizers(embedded: Any) -> dict[str, Any]:
    found = {"SmolLM2": embedded}
    for name, template in TEMPLATES.items():
        found[name] = copy.deepcopy(embedded)
        found[name].chat_template = template
        added = [f"<|{token}|>" for token in ("start_header_id", "end_header_id", "eot_id")]
        found[name].add_special_tokens({"additional_special_tokens": added})
    return found


@pytest.fixture
def look(tmp_path: Path, embedded: Any) -> Examine:
    """Write rows, one a line, and examine them."""

    def run(*rows: Any, tokenizer: Any = None, name: str = "rows.jsonl", **given: Any) -> Any:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (tmp_path / name).write_text("\n".join(lines))
        request = FinetuningRequest(dataset_name=name, **given)
        return examine(open_dataset(name, tmp_path), request, tokenizer or embedded)

    return run
