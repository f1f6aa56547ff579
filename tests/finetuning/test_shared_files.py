"""Jobs of hosts that share no folder: what others need lies under an address of fsspec."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import zipfile
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ml.errors import ConfigurationError, InvalidInput, NotFound, PayloadTooLarge
from ml.finetuning import job
from ml.finetuning.failures import OutputTaken
from ml.finetuning.output import Output
from ml.finetuning.run_files import RunFiles
from ml.finetuning.settings import TrainerSettings
from ml.finetuning.shared_checkpoints import shared_checkpoints, shared_text
from ml.finetuning.shared_files import SharedFiles
from ml.finetuning.shared_models import SharedOutput
from ml.generation.adapter_folder import AdapterFolder
from ml.generation.request import ModelNotFound
from ml.jobs.context import Stopped
from ml.jobs.local_copies import LocalCopies
from ml.jobs.remote_files import FilesAway, RemoteFiles
from ml.jobs.stored_file import FileHashes
from tests.support.finetuning import Context, Workplace
from tests.support.processes import free_port

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass
class Hosts:
    """Hosts with a folder each; `there` is what they share, in which is the data."""

    root: Path
    there: Path
    monkeypatch: pytest.MonkeyPatch

    def host(self, name: str) -> Workplace:
        """Be this host from now on."""
        self.monkeypatch.setenv("WORKING_PATH", str(self.root / name))
        return Workplace(self.root / "none", self.root / "none", self.root / name)

    def files(self) -> SharedFiles:
        """Return what this host has of the shared files."""
        shared = SharedFiles.of(TrainerSettings.from_environment())
        assert shared is not None
        return shared


@pytest.fixture
def hosts(workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    there = tmp_path / "shared"
    there.mkdir()
    workplace.input.rename(there / "input")
    monkeypatch.setenv("TRAINER_FILES_URL", f"file://{there}")
    monkeypatch.delenv("INPUT_PATH")
    monkeypatch.delenv("OUTPUT_PATH")
    return Hosts(tmp_path / "hosts", there, monkeypatch)


def stop(context: Context, *, at: int) -> Context:
    context.stop_at = at
    with pytest.raises(Stopped):
        job.run(context)  # type: ignore[arg-type]
    return context


def finish(context: Context) -> dict[str, Any]:
    return job.run(context)  # type: ignore[arg-type]


def test_another_host_goes_on_from_the_copied_checkpoint_as_if_nothing_had_been(
    hosts: Hosts,
) -> None:
    here = hosts.host("first")
    _, whole = here.run("whole", output_dir="whole")
    first = stop(here.context("one"), at=4)
    shutil.rmtree(hosts.root / "first")
    second = hosts.host("second").context("one", attempt=2)
    result = finish(second)
    assert first.curve() + second.curve() == whole.curve()
    assert [data["step"] for data in second.steps()] == [5, 6, 7, 8]
    log = (hosts.there / "output" / "results" / "training_logs.jsonl").read_text()
    assert [json.loads(line)["step"] for line in log.splitlines()] == list(range(1, 9))
    metrics = hosts.there / "output" / "results" / "metrics.csv"
    assert len(metrics.read_text().splitlines()) == 9
    weights = [(hosts.there / "output" / name / WEIGHTS) for name in ("whole", "results")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert result["archive"]["name"] == "results.zip"


def test_what_a_finished_job_made_is_there_whole_and_nothing_of_it_is_left_on_its_host(
    hosts: Hosts,
) -> None:
    result, context = hosts.host("first").run()
    there = hosts.there / "output" / "results"
    manifest = json.loads((there / "manifest.json").read_text())
    assert {CONFIG, WEIGHTS, "tokenizer.json"} <= set(manifest["files"])
    for name, known in manifest["files"].items():
        assert (there / name).stat().st_size == known["bytes"]
    with zipfile.ZipFile(hosts.there / "output" / "results.zip") as archive:
        assert archive.testzip() is None
    [numbers] = result["result_files"]
    assert hosts.files().uploads.stored(hosts.files().uploads.entry(numbers)).size > 0
    for left in ("output", "checkpoints", "examples"):
        assert not (context.folder / left).exists()
    assert not list(hosts.there.rglob("*.partial"))


def test_a_host_that_serves_copies_the_adapters_that_are_asked_for(
    hosts: Hosts, tmp_path: Path
) -> None:
    hosts.host("trains").run()
    hosts.host("serves")
    shared = hosts.files()
    settings = TrainerSettings.from_environment()
    settings.models_path.mkdir(parents=True)
    folder = AdapterFolder(settings.models_path)
    folder.source = shared.models
    assert folder.names() == {"results"}
    assert not (settings.models_path / "results").exists()
    found = folder.find("results")
    copied = (found.folder / WEIGHTS).read_bytes()
    assert copied == (hosts.there / "output" / "results" / WEIGHTS).read_bytes()
    version = found.version()
    assert folder.find("results").version() == version
    for name in ("other", "../results", "results.zip"):
        with pytest.raises(ModelNotFound):
            folder.find(name)
    shared.models.delete("results")
    with pytest.raises(ModelNotFound):
        folder.find("results")
    assert not found.folder.exists()
    assert not any(
        (hosts.there / name).exists() for name in ("output/results", "output/results.zip")
    )
    assert not any((hosts.there / "claims").iterdir())


def test_training_goes_on_from_a_tuned_model_that_another_host_made(hosts: Hosts) -> None:
    hosts.host("first").run()
    result, _ = hosts.host("second").run("two", model_name="results", output_dir="further")
    assert result["trained_on_from"] == "results"


def test_a_name_belongs_to_one_job_on_whichever_host(hosts: Hosts) -> None:
    stop(hosts.host("first").context("one"), at=4)
    assert hosts.files().models.taken() == {"results", "results.zip"}
    with pytest.raises(OutputTaken, match="'results' belongs to job one"):
        hosts.host("second").run("two")
    assert hosts.files().models.taken() == {"results", "results.zip"}


def test_a_job_that_left_nothing_gives_its_name_back(hosts: Hosts) -> None:
    (hosts.there / "input" / "rows.jsonl").write_text('{"what": 1}\n' * 4)
    with pytest.raises(Exception, match="not usable"):
        hosts.host("first").run()
    assert not hosts.files().models.taken()


def test_checkpoints_and_logs_are_told_of_a_job_on_another_host(hosts: Hosts) -> None:
    stop(hosts.host("first").context("one", save_total_limit=1), at=7)
    hosts.host("second")
    files = hosts.files().files
    [checkpoint] = shared_checkpoints(files, "one")
    assert checkpoint.step == 7
    assert checkpoint.numbers["step"] == 7
    log = shared_text(files, "one", "training_logs.jsonl")
    assert [json.loads(line)["step"] for line in log.splitlines()] == list(range(1, 8))


def test_half_a_copied_checkpoint_is_none(hosts: Hosts) -> None:
    stop(hosts.host("first").context("one", save_total_limit=2), at=7)
    [*_, newest] = sorted((hosts.there / "jobs" / "one" / "checkpoints").iterdir())
    (newest / "complete.json").unlink()
    shutil.rmtree(hosts.root / "first")
    second = hosts.host("second").context("one", attempt=2, save_total_limit=2)
    finish(second)
    assert [data["step"] for data in second.steps()] == [7, 8]


def test_a_host_that_came_further_than_the_copies_goes_on_from_its_own(hosts: Hosts) -> None:
    context = stop(hosts.host("first").context("one", save_total_limit=2), at=7)
    for name in ("checkpoint-7", "checkpoint-6"):
        shutil.rmtree(hosts.there / "jobs" / "one" / "checkpoints" / name)
    again = hosts.host("first").context("one", attempt=2, save_total_limit=2)
    finish(again)
    assert [data["step"] for data in again.steps()] == [8]
    assert context.folder == again.folder


def test_data_is_copied_once_and_again_when_it_changes(hosts: Hosts) -> None:
    hosts.host("first")
    shared, settings = hosts.files(), TrainerSettings.from_environment()
    copy = settings.data_path / "rows.jsonl"
    shared.fetch_dataset("rows")
    began = copy.stat().st_ino
    shared.fetch_dataset("./rows.jsonl")
    assert copy.stat().st_ino == began
    source = hosts.there / "input" / "rows.jsonl"
    source.write_text(source.read_text() + '{"instruction": "new", "output": "row"}\n')
    shared.fetch_dataset("rows")
    assert copy.read_text() == source.read_text()
    source.unlink()
    shared.fetch_dataset("rows")
    assert not copy.exists()


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x.jsonl", "a/../../x.jsonl", "s3://other/x.jsonl", "~/x.jsonl", ""]
)
def test_no_name_leads_out_of_the_shared_input(hosts: Hosts, name: str) -> None:
    hosts.host("first")
    (hosts.there / "x.jsonl").write_text("{}")
    with suppress(InvalidInput):
        hosts.files().fetch_dataset(name)
    settings = TrainerSettings.from_environment()
    assert not [path for path in settings.working_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["../../kept", "..", "/kept", "a/../../../kept", "owner/name", ""])
def test_no_name_of_a_model_or_copy_touches_what_lies_elsewhere(hosts: Hosts, name: str) -> None:
    working = hosts.host("first").working
    (working / "kept").mkdir(parents=True)
    (working / "kept" / "file").write_text("is not to go")
    models = hosts.files().models
    models.fetch(name)
    with pytest.raises(NotFound):
        models.delete(name)
    copies = LocalCopies(
        hosts.files().files, "output", working / "copies" / "output", most_bytes=1000
    )
    with suppress(ValueError):
        copies.forget(name)
    assert (working / "kept" / "file").read_text() == "is not to go"


def test_data_that_a_host_has_no_room_for_is_refused_before_it_is_copied(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINER_COPIES_BYTES", "100")
    hosts.host("first")
    with pytest.raises(PayloadTooLarge, match="TRAINER_COPIES_BYTES is 100"):
        hosts.files().fetch_dataset("rows")


def test_a_query_is_run_once_whichever_host_goes_on(hosts: Hosts) -> None:
    with closing(sqlite3.connect(hosts.there / "input" / "houses.db")) as database:
        database.execute("CREATE TABLE houses (instruction TEXT, output TEXT)")
        rows = [(f"Which colour has house {n}?", f"It is red{n}.") for n in range(8)]
        database.executemany("INSERT INTO houses VALUES (?, ?)", rows)
        database.commit()
    query = {"query": "SELECT * FROM houses", "params": []}
    fields = {"dataset_name": None, "query_params": query}
    stop(hosts.host("first").context("one", **fields), at=4)
    (hosts.there / "input" / "houses.db").unlink()
    second = hosts.host("second").context("one", attempt=2, **fields)
    finish(second)
    assert [data["step"] for data in second.steps()] == [5, 6, 7, 8]


def test_an_upload_is_found_on_another_host_until_it_is_deleted(hosts: Hosts) -> None:
    hosts.host("first")
    uploads = hosts.files().uploads
    scratch = uploads.scratch()
    scratch.write_text('{"instruction": "a", "output": "b"}\n' * 8)
    entry = uploads.keep(scratch, "mine.jsonl")
    assert not scratch.exists()
    hosts.host("second")
    uploads = hosts.files().uploads
    assert uploads.list() == [entry]
    with uploads.stored(entry).open() as file:
        assert file.read().count(b"\n") == 8
    hosts.files().fetch_dataset(entry["id"])
    uploads.delete(entry["id"])
    assert uploads.list() == []
    with pytest.raises(NotFound):
        uploads.entry(entry["id"])
    hosts.host("first")
    assert hosts.files().uploads.list() == []


def test_a_checkpoint_that_cannot_be_copied_is_told_and_copied_with_the_next(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = hosts.host("first").context("one")
    away = hosts.root / "away"

    class Watching(Context):
        def event(self, type: str, data: dict[str, Any]) -> None:  # noqa: A002
            super().event(type, data)
            if data.get("step") == 3:  # before its checkpoint is copied
                block(hosts.there / "jobs")
            if "on this host alone" in str(data.get("message")):
                (hosts.there / "jobs").unlink()

    def block(place: Path) -> None:
        away.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("in the way of a folder")

    monkeypatch.setattr("ml.jobs.remote_files._PAUSE_SECONDS", 0.01)
    watching = Watching(context.job, context.folder, stop_at=6)
    with pytest.raises(Stopped):
        job.run(watching)  # type: ignore[arg-type]
    told = [data["message"] for data in watching.of("log") if data["level"] == "WARNING"]
    assert len(told) == 1
    assert told[0].startswith("The checkpoint of step 3 is on this host alone")
    steps = [one.step for one in shared_checkpoints(hosts.files().files, "one")]
    assert steps == [3, 6]


def test_where_the_tuned_model_cannot_be_copied_the_job_can_go_on_later(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml.jobs.remote_files._PAUSE_SECONDS", 0.01)
    (hosts.there / "output").write_text("in the way of a folder")
    context = hosts.host("first").context("one")
    with pytest.raises(FilesAway):
        job.run(context)  # type: ignore[arg-type]
    assert not (hosts.there / "models").exists()
    (hosts.there / "output").unlink()
    again = hosts.host("second").context("one", attempt=2)
    result = finish(again)
    assert again.steps() == []
    assert result["training"]["steps"] == 8
    assert (hosts.there / "output" / "results" / "metrics.csv").read_text().count("\n") == 9


def test_the_copies_whose_use_is_longest_ago_make_room(hosts: Hosts) -> None:
    size = (hosts.there / "input" / "rows.jsonl").stat().st_size
    for name in ("old", "older", "new"):
        shutil.copy(hosts.there / "input" / "rows.jsonl", hosts.there / "input" / f"{name}.jsonl")
    hosts.monkeypatch.setenv("TRAINER_COPIES_BYTES", str(2 * size))
    hosts.host("first")
    shared, folder = hosts.files(), TrainerSettings.from_environment().data_path
    for age, name in ((2000, "older"), (1000, "old"), (0, "new")):
        shared.fetch_dataset(name)
        [note] = (folder / ".copies").glob(f"{name}.jsonl.json")
        os.utime(note, (note.stat().st_atime - age, note.stat().st_mtime - age))
    shared.fetch_dataset("rows")
    assert sorted(path.name for path in folder.glob("*.jsonl")) == ["new.jsonl", "rows.jsonl"]


def test_a_claim_of_which_the_answer_was_lost_is_the_jobs_own(hosts: Hosts) -> None:
    hosts.host("first")
    for _ in range(2):
        SharedOutput(hosts.files().files, hosts.root / "x", "mine", "one").claim([])
    with pytest.raises(OutputTaken):
        SharedOutput(hosts.files().files, hosts.root / "y", "mine", "two").claim(["merged_16bit"])
    assert hosts.files().models.taken() == {"mine", "mine.zip"}


def test_an_address_that_is_a_file_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    for url in (f"file://{tmp_path}/there", f"file://{tmp_path}/there/folder"):
        with pytest.raises(ConfigurationError, match="a file is where a folder has to be"):
            RemoteFiles(url).check()


def test_a_server_that_is_away_is_so_from_the_first_connection_on() -> None:
    with pytest.raises(FilesAway, match="ConnectionRefusedError"):
        RemoteFiles(f"ftp://127.0.0.1:{free_port()}/folder")


@pytest.mark.parametrize("scheme", ["filecache", "dbfs", "jupyter"])
def test_a_file_system_that_needs_more_than_an_address_is_told(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{scheme}:// needs more than an address"):
        RemoteFiles(f"{scheme}://folder")


def test_an_export_is_among_the_files_of_its_run_once_all_of_it_is_there(hosts: Hosts) -> None:
    _, context = hosts.host("first").run()
    shared, settings = hosts.files(), TrainerSettings.from_environment()
    files = RunFiles.of(settings.models_path, settings.data_path, shared, FileHashes())
    folder = Output(Path(), "results", context.job.id).export_name("merged_16bit")
    export = hosts.there / "output" / folder
    export.mkdir()
    (export / "model.safetensors").write_bytes(b"half")
    (hosts.there / "claims" / folder).write_text(context.job.id)

    def found() -> bool:
        return f"{folder}/model.safetensors" in {
            file.stored.name for file in files.of_model("results", None)
        }

    assert not found()
    (export / ".job").write_text(context.job.id)
    assert found()
