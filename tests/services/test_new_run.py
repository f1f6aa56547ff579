"""What the page on which a run is started asks the service for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ml.finetuning.data.input_files import input_files
from ml.finetuning.request import FinetuningRequest
from tests.services.trainer import Trainer, trainer, upload


async def get(service: Trainer, path: str) -> Any:
    reply = await service.app.test_client().get(path)
    assert reply.status_code == 200, await reply.get_data()
    return await reply.get_json()


async def test_files_are_listed_that_a_request_can_name_and_no_others(service: Trainer) -> None:
    root, outside = service.root / "input", service.root / "outside.jsonl"
    for name in ("a.csv", "deep/er/b.JSON", ".hidden.jsonl", ".git/c.json", "notes.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{}")
    outside.write_text("{}")
    (root / "out.jsonl").symlink_to(outside)
    (root / "loop.jsonl").symlink_to(root / "loop.jsonl")
    (root / "up").symlink_to(service.root)
    (root / "link.jsonl").symlink_to(root / "rows.jsonl")
    (root / "back\\slash.jsonl").write_text("{}")
    (root / os.fsdecode(b"\xff.jsonl")).write_text("{}")
    uploaded = await upload(service, b'{"text": "a"}')
    found = await get(service, "/datasets")
    names = [file["name"] for file in found["files"]]
    assert names == ["a.csv", "deep/er/b.JSON", "link.jsonl", "rows.jsonl"]
    assert found["files"][0]["bytes"] == 2
    assert [entry["id"] for entry in found["uploads"]] == [uploaded]
    assert found["whole"] is True
    for name in (*names, uploaded):
        reply = await service.post(
            "/datasets/validate", {"model_name": "small", "dataset_name": name}
        )
        assert reply.status_code in (200, 422)
        assert "refusal" in await reply.get_json()


def test_a_list_of_too_many_files_is_cut_and_says_so(tmp_path: Path) -> None:
    for number in range(1002):
        (tmp_path / f"{number:04}.csv").touch()
    files, whole = input_files(tmp_path)
    assert (len(files), files[-1].name, whole) == (1000, "0999.csv", False)


async def test_models_to_tune_are_those_here_and_the_tuned_ones_that_can_be_tuned_on(
    service: Trainer,
) -> None:
    output = service.root / "output"
    for name, config in {
        "houses": '{"peft_type": "LORA", "base_model_name_or_path": "small"}',
        "prompts": '{"peft_type": "PROMPT_TUNING", "base_model_name_or_path": "small"}',
        "broken": "{",
    }.items():
        (output / name).mkdir()
        (output / name / "adapter_config.json").write_text(config)
        (output / name / "adapter_model.safetensors").touch()
    (output / "unfinished").mkdir()
    assert await get(service, "/finetune/models") == {"base": ["small"], "tuned": ["houses"]}


async def test_where_models_are_allowed_those_are_offered_and_what_was_made_of_them(
    tmp_path: Path,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, base in {"good": "owner/model", "other": "small"}.items():
        (tmp_path / "output" / name).mkdir(parents=True)
        config = f'{{"peft_type": "LORA", "base_model_name_or_path": "{base}"}}'
        (tmp_path / "output" / name / "adapter_config.json").write_text(config)
        (tmp_path / "output" / name / "adapter_model.safetensors").touch()
    settings = {"TRAINER_ALLOWED_MODELS": "owner/model"}
    async with trainer(tmp_path, models, monkeypatch, **settings) as service:
        found = await get(service, "/finetune/models")
        assert found == {"base": ["owner/model"], "tuned": ["good"]}


async def test_the_first_rows_are_told_as_they_were_read(service: Trainer) -> None:
    path = service.root / "input" / "rows.jsonl"
    long, deep = "x" * 5000, "[" * 300 + "]" * 300
    path.write_text(
        '{"say": ["I", 1], "ask": "Who?", "none": null}\n{broken\n[1]\n'
        f'{{"ask": "{long}", "say": {deep}}}\n' + '{"ask": "a", "say": "b"}\n' * 9
    )
    body = {
        "model_name": "small",
        "dataset_name": "rows.jsonl",
        "column_map": {"prompt": "ask", "completion": "say"},
    }
    rows = (await (await service.post("/datasets/validate", body)).get_json())["first_rows"]
    assert [row["line"] for row in rows] == [1, 4, 5, 6, 7]
    assert rows[0]["values"] == [["say", '["I",1]'], ["ask", "Who?"], ["none", "null"]]
    (_, told), (_, nested) = rows[1]["values"]
    assert len(told) < 2100
    assert nested == "…"


async def test_the_page_has_a_field_for_every_setting_of_a_request(service: Trainer) -> None:
    page = service.app.test_client().get("/new", headers={"Accept": "text/html"})
    text = await (await page).get_data(as_text=True)
    placed = {"query_id", "query_params", "column_map", "dataset_name", "model_name", "resources"}
    for name in FinetuningRequest.model_fields.keys() - placed:
        assert f'name="{name}"' in text, name
    assert 'min="1"' in text.split('id="lora_r"')[1].split(">")[0]
    assert 'max="512"' in text.split('id="lora_r"')[1].split(">")[0]
