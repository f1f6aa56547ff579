"""The example that the trainer's document has for a node's message is answered."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from ml.models.embedded_llm import EMBEDDED_LLM
from tests.services.trainer import trainer
from tests.support.finetuning import save_small_llm
from tests.support.processes import ROOT


async def test_it_queues_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_small_llm(tmp_path / "models" / EMBEDDED_LLM)
    async with trainer(tmp_path, tmp_path / "models", monkeypatch) as service:
        shutil.copy(ROOT / "examples" / "finetuning" / "ostwick_harbour.jsonl", tmp_path / "input")
        client = service.app.test_client()
        paths = (await (await client.get("/openapi.json")).get_json())["paths"]
        [example] = examples(paths["/service_output"]["post"])
        reply = await service.post("/service_output", example)
        assert reply.status_code == 200, await reply.get_data()
        answer = await reply.get_json()
        assert answer["status"] == "queued"
        assert (await service.jobs.get(answer["job_id"])).request["output_dir"] == "my-model"
        asked = await service.post("/service_output", {"source": 1, "data": {"job_id": "counting"}})
        assert (await asked.get_json())["job_id"] == "counting"
        assert examples(paths["/service_output/encode"]["post"]) == []


def examples(operation: dict[str, Any]) -> list[Any]:
    content = operation["requestBody"]["content"]["application/json"]
    return [one["value"] for one in content.get("examples", {}).values()]
