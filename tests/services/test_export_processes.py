"""Exports in processes of their own that are cancelled, killed, and interrupted by restarts."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import gguf
import pytest

from tests.support.finetuning import REQUEST, save_small_llm, write_rows
from tests.support.processes import CLIENT, ROOT, Server, clean_environment, free_port, until

pytestmark = pytest.mark.timeout(600)
ENDED = ("succeeded", "failed", "cancelled", "interrupted")


class Place:
    """Folders of a service, in which there is a tuned model; conversions wait for `go`."""

    def __init__(self, root: Path) -> None:
        self.output, self.working, self.go = root / "out", root / "work", root / "go"
        save_small_llm(root / "models" / "small")
        (root / "in").mkdir()
        pairs = [(f"Which house is {n}?", f"It is {n}.") for n in range(16)]
        write_rows(root / "in" / "rows.jsonl", pairs)
        self._environment = clean_environment(
            INPUT_PATH=str(root / "in"),
            OUTPUT_PATH=str(self.output),
            WORKING_PATH=str(self.working),
            MODELS_PATH=str(root / "models"),
            HF_HUB_OFFLINE="1",
            TRAINER_DTYPE="float32",
            TRAINER_RESUME_INTERRUPTED="true",
            LLAMA_CPP_PATH=str(ROOT / "tests" / "support" / "llama_cpp"),
            CONVERTER_WAITS_FOR=str(self.go),
        )

    def service(self) -> Server:
        port = free_port()
        command = ["serve", "unsloth_trainer_service", f"--bind=127.0.0.1:{port}"]
        return Server(command, port=port, environment=self._environment)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.output.iterdir())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("exports"))
    with place.service() as server:
        server.wait_ready()
        reply = CLIENT.post(f"{server.url}/finetune", json=REQUEST | {"output_dir": "houses"})
        assert reply.status_code == 200, reply.text
        job = until_state(server, reply.json()["job_id"], *ENDED)
        assert job["status"] == "succeeded", job
    return place


def until_state(server: Server, job_id: str, *states: str) -> Any:
    def view() -> Any:
        job = server.get(f"/jobs/{job_id}").json()
        return job if job["status"] in states else None

    return until(view, f"{job_id} is {states}", 240)


def until_converting(place: Place, server: Server, job_id: str, attempt: int) -> int:
    """Wait until the converter of an attempt writes, and return the number of the job's process."""

    def pid() -> int | None:
        partial = list(place.output.glob(f".houses-gguf.{job_id}-{attempt}.partial/*.gguf"))
        if not partial:
            job = server.get(f"/jobs/{job_id}").json()
            assert job["status"] in ("queued", "running", "interrupted"), job
            return None
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"ml.jobs.child" in words and job_id.encode() in words:
                return int(folder.name)
        return None

    found: int = until(pid, f"attempt {attempt} of {job_id} converts", 240)
    return found


def export(server: Server) -> str:
    reply = CLIENT.post(f"{server.url}/v1/models/houses/export", json={"exports": ["gguf"]})
    assert reply.status_code == 202, reply.text
    return str(reply.json()["job_id"])


def require_a_gguf(server: Server, run_id: str, target: Path) -> None:
    """Download the export of the run's files, and read it."""
    files = server.get(f"/jobs/{run_id}/files").json()["files"]
    [file] = [file for file in files if file["kind"] == "gguf"]
    assert file["name"] == "houses-gguf/houses.bf16.gguf"
    target.write_bytes(server.get(file["url"]).content)
    assert hashlib.sha256(target.read_bytes()).hexdigest() == file["sha256"]
    assert gguf.GGUFReader(target).fields["general.architecture"].contents() == "llama"


def test_cancelled_or_killed_it_leaves_nothing_and_is_made_when_it_is_resumed(
    place: Place, tmp_path: Path
) -> None:
    before = place.names()
    with place.service() as server:
        server.wait_ready()
        job_id = export(server)
        until_converting(place, server, job_id, 1)
        assert CLIENT.delete(f"{server.url}/jobs/{job_id}").is_success
        until_state(server, job_id, "cancelled")
        until(lambda: place.names() == before, "nothing of it is left")

        assert CLIENT.post(f"{server.url}/jobs/{job_id}/resume").is_success
        os.kill(until_converting(place, server, job_id, 2), signal.SIGKILL)
        job = until_state(server, job_id, "failed")
        assert "SIGKILL" in job["reason"]
        until(lambda: place.names() == before, "nothing of it is left")

        place.go.touch()
        assert CLIENT.post(f"{server.url}/jobs/{job_id}/resume").is_success
        job = until_state(server, job_id, *ENDED)
        assert job["status"] == "succeeded", job
        assert place.names() == sorted([*before, "houses-gguf"])
        require_a_gguf(server, job["result"]["run_id"], tmp_path / "taken.gguf")


def test_a_service_that_starts_again_goes_on_and_half_of_it_is_never_seen(place: Place) -> None:
    place.go.unlink(missing_ok=True)
    shutil.rmtree(place.output / "houses-gguf", ignore_errors=True)
    before = place.names()
    with place.service() as server:
        server.wait_ready()
        job_id = export(server)
        until_converting(place, server, job_id, 1)
        server.signal(signal.SIGTERM)
        server.wait(120)
    assert place.names() == before
    with place.service() as server:
        server.wait_ready()
        until_converting(place, server, job_id, 2)
        for pid in server.children():
            os.kill(pid, signal.SIGKILL)
        server.signal(signal.SIGKILL)
        server.wait()
    with place.service() as server:
        server.wait_ready()
        until_converting(place, server, job_id, 3)
        place.go.touch()
        job = until_state(server, job_id, "succeeded", "failed", "cancelled")
        assert job["status"] == "succeeded", job
        assert place.names() == sorted([*before, "houses-gguf"])
