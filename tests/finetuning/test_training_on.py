"""A tuned model's name as the model to train: its adapter is trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ml.errors import NotFound, UnprocessableInput, UpstreamError
from ml.finetuning.request import FinetuningRequest
from ml.finetuning.start import Start
from tests.support.finetuning import Workplace


def request(**fields: Any) -> FinetuningRequest:
    return FinetuningRequest(dataset_name="rows.jsonl", model_name="first", **fields)


def test_training_on_begins_where_the_tuned_model_was(workplace: Workplace) -> None:
    first, _ = workplace.run("one", output_dir="first", max_steps=20)
    second, context = workplace.run("two", output_dir="second", model_name="first", max_steps=4)
    began, ended = (first["training"][name] for name in ("loss_first", "loss_last"))
    assert second["training"]["loss_first"] < (began + ended) / 2 < began - 0.5
    assert (second["base_model"], second["trained_on_from"]) == ("small", "first")
    assert any("Training on from" in data["message"] for data in context.of("log"))
    config = json.loads((workplace.output / "second" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "small"  # served beside the first one


def test_what_an_adapter_has_decided_is_taken_from_it_and_not_contradicted(
    workplace: Workplace,
) -> None:
    workplace.run("one", output_dir="first", max_steps=1, target_modules=["q_proj", "v_proj"])
    start = Start.of("first", workplace.output)
    fitted = start.fitted(request(max_steps=3))
    assert (fitted.lora_r, fitted.target_modules, fitted.max_steps) == (4, ["q_proj", "v_proj"], 3)
    assert start.fitted(request(lora_r=4, target_modules="all-linear")).lora_r == 4
    with pytest.raises(UnprocessableInput, match=r"lora_r: the tuned model 'first' .* own, 4"):
        start.fitted(request(lora_r=8))
    with pytest.raises(UnprocessableInput, match="target_modules: the tuned model 'first'"):
        start.fitted(request(target_modules=["q_proj"]))


def test_a_name_that_is_a_base_models_means_the_base(workplace: Workplace, models: Path) -> None:
    assert Start.of("small", workplace.output) == Start("small")
    assert Start.of("nobody", workplace.output) == Start("nobody")


def test_a_tuned_model_that_is_gone_is_told_at_the_start(workplace: Workplace) -> None:
    workplace.run("one", output_dir="first", max_steps=1)
    shutil.rmtree(workplace.output / "first")
    with pytest.raises(UnprocessableInput, match=r"'first' cannot be loaded: .* small"):
        workplace.run("two", output_dir="second", model_name="first")


def test_a_tuned_model_whose_base_is_gone_names_both(workplace: Workplace) -> None:
    workplace.run("one", output_dir="first", max_steps=1)
    file = workplace.output / "first" / "adapter_config.json"
    config = json.loads(file.read_text()) | {"base_model_name_or_path": "owner/gone"}
    file.write_text(json.dumps(config))
    with pytest.raises(UnprocessableInput, match=r"'owner/gone' \(the base of 'first'\) cannot"):
        Start.of("first", workplace.output).require()


def test_data_that_is_gone_when_the_job_begins_is_named(workplace: Workplace) -> None:
    (workplace.input / "rows.jsonl").unlink()
    with pytest.raises(NotFound, match=r"no file 'rows\.jsonl' in the input folder"):
        workplace.run("one")
    with pytest.raises(UpstreamError, match="no file 'some/rows' in the input folder, and as a"):
        workplace.run("two", dataset_name="some/rows")
    with pytest.raises(NotFound, match="no uploaded file 'file-abc', or not any more"):
        workplace.run("three", dataset_name="file-abc")
    assert not (workplace.output / "results").exists()
