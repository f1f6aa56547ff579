"""Exports of a tuned model after its training, each a job: what comes of one, and what does not."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from ml.errors import NotFound, StorageFull
from ml.finetuning import export_job
from ml.finetuning.export_request import ExportJobRequest, ExportRequest
from ml.finetuning.exports import require_room
from ml.finetuning.failures import OutputTaken
from ml.finetuning.output import owner_of
from ml.jobs.context import Stopped
from ml.jobs.job import Job, JobState, StopRequest
from tests.finetuning.test_shared_files import Hosts, hosts  # noqa: F401 (a fixture)
from tests.support.finetuning import REQUEST, Context, Workplace
from tests.support.processes import ROOT

LEARNING = {"max_steps": 30, "learning_rate": 3e-2, "save_steps": 30}


@pytest.fixture(autouse=True)
def converter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CPP_PATH", str(ROOT / "tests" / "support" / "llama_cpp"))


class Stopping(Context):
    """Is asked to stop once something is told."""

    word = ""

    def stop_request(self) -> StopRequest | None:
        told = any(self.word in data.get("message", "") for _, data in self.events)
        return StopRequest.CANCEL if self.word and told else None


def export(workplace: Workplace, *exports: str, attempt: int = 1, word: str = "") -> Context:
    wish = ExportRequest.read({"exports": list(exports)})
    request = ExportJobRequest.of(wish, "results", "one", REQUEST)
    job = Job(
        id="export_1",
        kind=export_job.__name__,
        state=JobState.RUNNING,
        request=request.model_dump(mode="json"),
        created_at=0.0,
        attempt=attempt,
    )
    folder = workplace.working / "jobs" / job.id
    folder.mkdir(parents=True, exist_ok=True)
    context = Stopping(job, folder)
    context.word = word
    return context


def run(context: Context) -> dict[str, Any]:
    return export_job.run(context)  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=torch.tensor([[72, 101, 108, 108, 111]])).logits
    return found.float()


def test_each_form_says_what_the_adapter_says_and_belongs_to_the_run_that_made_it(
    workplace: Workplace, models: Path
) -> None:
    workplace.run(**LEARNING)
    context = export(workplace, "merged_16bit", "gguf", "gguf")
    result = run(context)
    assert (result["model"], result["run_id"]) == ("results", "one")
    assert list(result["exports"]) == ["merged_16bit", "gguf"]
    assert names(workplace.output) == ["results", "results-gguf", "results-merged", "results.zip"]
    for made in result["exports"].values():
        assert made["compared_with_adapter"]["divergence"] < 0.02
        folder = workplace.output / made["name"]
        assert owner_of(folder) == "one"
        for name, facts in made["files"].items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == facts["sha256"]

    base = AutoModelForCausalLM.from_pretrained(models / "small").eval()
    untuned = logits(base)
    adapted = logits(PeftModel.from_pretrained(base, str(workplace.output / "results")).eval())
    folder = workplace.output / "results-gguf"
    forms = [
        AutoModelForCausalLM.from_pretrained(workplace.output / "results-merged"),
        AutoModelForCausalLM.from_pretrained(folder, gguf_file="results.bf16.gguf"),
    ]
    for form in forms:
        assert torch.allclose(logits(form.eval()), adapted, atol=0.3, rtol=0.1)
    assert not torch.allclose(adapted, untuned, atol=0.3, rtol=0.1)
    assert AutoTokenizer.from_pretrained(workplace.output / "results-merged").chat_template
    reader = gguf.GGUFReader(folder / "results.bf16.gguf")
    assert reader.fields["general.architecture"].contents() == "llama"


def test_it_tells_how_far_it_is(workplace: Workplace) -> None:
    workplace.run()
    context = export(workplace, "merged_16bit")
    run(context)
    told = [(data["phase"], data["progress"]) for data in context.of("status")]
    assert told == [("exporting", 0.0), ("exporting", 33.33), ("exporting", 66.67)]
    assert context.newest["phase"] == "Asking the export merged_16bit"


@pytest.mark.parametrize("word", ["Merging", "Converting", "Asking the export"])
def test_a_cancelled_export_leaves_nothing(workplace: Workplace, word: str) -> None:
    workplace.run()
    before = names(workplace.output)
    with pytest.raises(Stopped):
        run(export(workplace, "gguf", word=word))
    assert names(workplace.output) == before


def test_a_conversion_ends_when_the_job_is_cancelled(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CONVERTER_WAITS_FOR", str(tmp_path / "never"))
    workplace.run()
    before = names(workplace.output)
    with pytest.raises(Stopped):
        run(export(workplace, "gguf", word="Converting"))
    assert names(workplace.output) == before


def test_another_attempt_makes_what_is_left(workplace: Workplace) -> None:
    workplace.run()
    with pytest.raises(Stopped):
        run(export(workplace, "merged_16bit", "gguf", word="Export merged_16bit"))
    made = workplace.output / "results-merged" / "model.safetensors"
    before = made.stat().st_mtime_ns
    result = run(export(workplace, "merged_16bit", "gguf", attempt=2))
    assert made.stat().st_mtime_ns == before
    assert list(result["exports"]) == ["merged_16bit", "gguf"]
    assert (workplace.output / "results-gguf" / "results.bf16.gguf").is_file()


def test_an_export_that_was_not_noted_any_more_is_made_again(workplace: Workplace) -> None:
    workplace.run()
    context = export(workplace, "merged_16bit")
    first = run(context)
    (context.folder / "exports.json").unlink()
    again = run(export(workplace, "merged_16bit", attempt=2))
    assert again == first
    assert names(workplace.output) == ["results", "results-merged", "results.zip"]


def test_what_is_there_already_or_gone_is_told(workplace: Workplace) -> None:
    workplace.run(exports=["merged_16bit"])
    with pytest.raises(OutputTaken, match="'results-merged' is there already, among the files of"):
        run(export(workplace, "merged_16bit"))
    shutil.rmtree(workplace.output / "results")
    with pytest.raises(NotFound, match="'results' is deleted meanwhile"):
        run(export(workplace, "gguf"))


def test_a_disk_without_room_is_told_before_anything_is_made(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELS_PATH", str(tmp_path))
    shutil.copytree(models / "small", tmp_path / "small")
    require_room(tmp_path, "small", ["merged_16bit", "gguf"])
    header = b'{"w": {"dtype": "F32", "shape": [1000000, 1000000], "data_offsets": [0, 0]}}'
    file = len(header).to_bytes(8, "little") + header
    (tmp_path / "small" / "model.safetensors").write_bytes(file)
    with pytest.raises(StorageFull, match=r"exports: they take 6000\.0 GB while they are made"):
        require_room(tmp_path, "small", ["merged_16bit", "gguf"])


def test_an_export_of_files_at_an_address_is_known_once_all_of_it_is_there(
    hosts: Hosts,  # noqa: F811
) -> None:
    hosts.host("first").run()
    there = hosts.there / "output"
    second = hosts.host("second")
    with pytest.raises(Stopped):
        run(export(second, "gguf", word="Asking the export"))
    assert names(there) == ["results", "results.zip"]
    assert names(hosts.there / "claims") == ["results", "results.zip"]
    result = run(export(second, "gguf", attempt=2))
    assert (there / "results-gguf" / ".job").read_text() == "one"
    assert (there / "results-gguf" / "results.bf16.gguf").is_file()
    assert not (second.working / "jobs" / "export_1" / "output").exists()
    assert result["exports"]["gguf"]["name"] == "results-gguf"
    with pytest.raises(OutputTaken, match="'results-gguf' is there already"):
        run(export(hosts.host("third"), "gguf"))
    hosts.files().models.delete("results")
    assert names(hosts.there / "claims") == []
