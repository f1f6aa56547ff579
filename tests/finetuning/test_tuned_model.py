"""What a job leaves: an adapter that others load, its zip, its manifest and its exports."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ml.finetuning.backends.trl_backend import TrlBackend
from ml.finetuning.exports import Exporter
from ml.finetuning.failures import TrainingFailed
from ml.finetuning.output import Output
from ml.finetuning.request import FinetuningRequest
from ml.generation.adapters import Adapters
from tests.support.finetuning import REQUEST, Workplace

#: Enough for the small model to say something else than before.
LEARNING = {"max_steps": 30, "learning_rate": 3e-2, "save_steps": 30}


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.tensor([[72, 101, 108, 108, 111]])).logits


def base(models: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(models / "small").eval()


def test_the_zip_loads_in_plain_peft_and_is_the_adapter(
    workplace: Workplace, models: Path, tmp_path: Path
) -> None:
    result, _ = workplace.run(**LEARNING)
    archive = workplace.output / result["archive"]["name"]
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == result["archive"]["sha256"]
    with zipfile.ZipFile(archive) as file:
        assert file.testzip() is None
        file.extractall(tmp_path / "unpacked")

    folders = (tmp_path / "unpacked", workplace.output / "results")
    unpacked, published = (
        logits(peft.PeftModel.from_pretrained(base(models), str(folder))) for folder in folders
    )
    assert unpacked.equal(published)
    assert not torch.allclose(unpacked, logits(base(models)), atol=0.1)
    config = json.loads((tmp_path / "unpacked" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "small"
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "unpacked")
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(models / "small").chat_template


def test_the_llm_engine_finds_and_loads_the_adapter_by_the_jobs_name(
    workplace: Workplace, models: Path
) -> None:
    workplace.run(output_dir="./tuned.v1", exports=["merged_16bit"])
    adapters = Adapters(base(models), workplace.output)
    assert [one.name for one in adapters.available()] == ["tuned.v1"]
    with adapters.acquire("tuned.v1") as lease:
        assert lease.slot >= 0


def test_the_zip_of_the_same_files_has_the_same_bytes(workplace: Workplace) -> None:
    result, _ = workplace.run()
    output = Output(workplace.output, "results", "one")
    with zipfile.ZipFile(output.archive) as file:
        names = file.namelist()
    for name in names:
        os.utime(output.folder / name, (1, 1))
    assert output.write_archive(list(reversed(names))) == result["archive"]["sha256"]
    assert not {"training_logs.jsonl", "metrics.csv", ".job"} & set(names)


def test_two_jobs_with_one_request_give_the_same_weights(workplace: Workplace) -> None:
    for name in ("one", "two"):
        workplace.run(name, output_dir=name, lora_dropout=0.1)
    one, two = (workplace.output / name for name in ("one", "two"))
    for file in ("adapter_model.safetensors", "adapter_config.json", "tokenizer.json"):
        assert (one / file).read_bytes() == (two / file).read_bytes()


def test_the_manifest_says_what_it_was_made_of(workplace: Workplace, tmp_path: Path) -> None:
    _, context = workplace.run(seed=7, validation_split=0.25)
    folder = workplace.output / "results"
    text = (folder / "manifest.json").read_text()
    manifest = json.loads(text)

    data = (workplace.input / "rows.jsonl").read_bytes()
    assert manifest["data"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert (manifest["data"]["train_examples"], manifest["data"]["validation_examples"]) == (12, 4)
    assert manifest["request"]["learning_rate"] == REQUEST["learning_rate"]
    assert manifest["seed"] == 7
    assert manifest["software"]["packages"]["torch"].startswith("2.")
    assert (manifest["backend"], manifest["device"], manifest["dtype"]) == ("trl", "cpu", "float32")
    assert "Unsloth cannot be used" in manifest["backend_reason"]
    assert manifest["training"]["loss_last"] == context.steps()[-1]["loss"]
    assert manifest["training"]["eval_loss_last"] == context.newest["eval_loss"]
    for name, file in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == file["sha256"]
    assert "adapter_model.safetensors" in manifest["files"]
    assert str(tmp_path) not in text


def test_a_merged_export_says_what_the_adapter_says(workplace: Workplace, models: Path) -> None:
    result, _ = workplace.run(exports=["merged_16bit"], **LEARNING)
    export = result["exports"]["merged_16bit"]
    assert export["name"] == "results-merged"
    assert export["compared_with_adapter"]["divergence"] < 0.01
    assert result["exports"]["adapter"]["compared_with_base"]["divergence"] > 0.1

    folder = workplace.output / "results-merged"
    sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert export["files"]["model.safetensors"]["sha256"] == sha256
    merged = AutoModelForCausalLM.from_pretrained(folder)
    assert merged.dtype == torch.bfloat16
    adapted = peft.PeftModel.from_pretrained(base(models), str(workplace.output / "results"))
    close = {"atol": 0.3, "rtol": 0.1}
    assert torch.allclose(logits(merged).float(), logits(adapted), **close)
    assert not torch.allclose(logits(merged).float(), logits(base(models)), **close)
    assert AutoTokenizer.from_pretrained(folder).chat_template


def test_an_export_that_lost_the_adapter_is_not_published(
    workplace: Workplace, models: Path
) -> None:
    workplace.run(**LEARNING)
    tokenizer = AutoTokenizer.from_pretrained(models / "small")

    class Forgetful(TrlBackend):
        """Writes the base model, as a broken merge would."""

        def save_merged(self, model: Any, tokenizer: Any, folder: Path) -> None:
            model.unload().save_pretrained(folder)
            tokenizer.save_pretrained(folder)

    exporter = Exporter(
        Forgetful(dtype="float32"),
        "small",
        workplace.output / "results",
        Output(workplace.output, "results", "one"),
        tokenizer,
        [tokenizer("Which colour has house 3?")["input_ids"]],
        FinetuningRequest.model_validate(REQUEST),
        tell=lambda _: None,
        heed=lambda: None,
    )
    adapter, _ = exporter.observe_adapter()
    with pytest.raises(TrainingFailed, match="does not say what the adapter says"):
        exporter.export("merged_16bit", adapter)
    left = sorted(path.name for path in workplace.output.iterdir())
    assert left == ["results", "results.zip"]


def test_an_interrupted_export_is_made_again_without_training(workplace: Workplace) -> None:
    workplace.run()
    (workplace.output / ".results-merged.one.partial").mkdir()
    (workplace.output / "results" / ".partial").mkdir()
    result, context = workplace.run(exports=["merged_16bit"])
    assert not context.steps()
    manifest = json.loads((workplace.output / "results" / "manifest.json").read_text())
    assert (manifest["device"], manifest["dtype"]) == ("cpu", "float32")
    assert result["exports"]["merged_16bit"]["name"] == "results-merged"
    hidden = [path for path in workplace.output.rglob(".*") if path.name != ".job"]
    assert not hidden
