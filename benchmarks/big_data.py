"""A data set of many rows through `/finetune`: what the web worker and the job's process take."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from benchmarks.results import recording
from benchmarks.servers import SERVE, Server, free_port
from ml.models.embedded_llm import EMBEDDED_LLM

__all__ = ["Figures", "big_data", "write_rows"]

_WITHIN_SECONDS = 3600.0
_LOOK_EVERY_SECONDS = 0.05
_JOB = "ml.jobs.child"


COLUMNS = (
    *("reply", "first step", "web worker, peak", "job, peak"),
    *("`/health/live` p50", "p99", "worst"),
)


@dataclass
class Figures:
    """What was measured; memory is the largest resident set of a process."""

    rows: int
    file_bytes: int
    submit_seconds: float = 0.0
    first_step_seconds: float = 0.0
    worker_bytes: int = 0
    worker_loaded: list[str] = field(default_factory=list)
    job_bytes: int = 0
    live_seconds: list[float] = field(default_factory=list)
    reading_events: int = 0

    def cells(self) -> list[Figure]:
        """Return them as `COLUMNS` names them."""
        times = sorted(self.live_seconds)
        live = [times[int(share * (len(times) - 1))] for share in (0.5, 0.99, 1.0)]
        return [
            Figure.of(self.submit_seconds, places=1, unit="s"),
            Figure.of(self.first_step_seconds, places=0, unit="s"),
            Figure.of(self.worker_bytes / 1e6, places=0, unit="MB"),
            Figure.of(self.job_bytes / 1e6, places=0, unit="MB"),
            *(Figure.of(1000 * seconds, places=0, unit="ms") for seconds in live),
        ]


def write_rows(file: Path, rows: int) -> int:
    """Write so many rows, every thousandth of them unusable; return the file's bytes."""
    with file.open("w") as target:
        for number in range(rows):
            row: dict[str, str] = {"instruction": f"Which colour has house {number} in the lane?"}
            if number % 1000:
                row["output"] = f"House {number} is {('red', 'blue', 'green')[number % 3]}."
            target.write(json.dumps(row) + "\n")
    return file.stat().st_size


def big_data(rows: int, folder: Path, *, model: str = EMBEDDED_LLM, **settings: str) -> Figures:
    """Fine-tune on so many rows up to the first step, and measure meanwhile."""
    places = {name: folder / name.lower() for name in ("INPUT_PATH", "OUTPUT_PATH", "WORKING_PATH")}
    for place in places.values():
        place.mkdir()
    figures = Figures(rows, write_rows(places["INPUT_PATH"] / "many.jsonl", rows))
    server = _Trainer(**{name: str(place) for name, place in places.items()}, **settings)
    server.start()
    try:
        server.wait_until_it_answers()
        watching = threading.Event()
        watch = threading.Thread(target=_watch, args=(server, figures, watching))
        watch.start()
        try:
            _train(server, model, figures)
        finally:
            watching.set()
            watch.join()
    finally:
        server.stop()
    return figures


def _train(server: _Trainer, model: str, figures: Figures) -> None:
    began = time.monotonic()
    body = {
        "model_name": model,
        "dataset_name": "many",
        "output_dir": "many",
        "max_seq_length": 128,
        "max_steps": 1,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 1,
    }
    job_id = server.call("/finetune", body)["job_id"]
    figures.submit_seconds = time.monotonic() - began
    while time.monotonic() < began + _WITHIN_SECONDS:
        job = server.call(f"/jobs/{job_id}")
        if job["status"] not in ("queued", "running"):
            raise SystemExit(f"the job {job['status']}: {job['reason']}")
        if job["progress"].get("step"):
            break
        time.sleep(0.2)
    figures.first_step_seconds = time.monotonic() - began
    events = server.call(f"/train/{job_id}/events/history")["events"]
    figures.reading_events = sum("so far" in str(event["data"]) for event in events)


def _watch(server: _Trainer, figures: Figures, ended: threading.Event) -> None:
    while not ended.wait(_LOOK_EVERY_SECONDS):
        began = time.monotonic()
        server.call("/health/live")
        figures.live_seconds.append(time.monotonic() - began)
        for pid in server.processes():
            command, memory = _command(pid), _peak_bytes(pid)
            if _JOB in command:
                figures.job_bytes = max(figures.job_bytes, memory)
            elif "ml.finetuning" not in command:
                figures.worker_bytes = max(figures.worker_bytes, memory)
                figures.worker_loaded = sorted({*figures.worker_loaded, *_heavy(pid)})


class _Trainer(Server):
    """The trainer service with one worker that serves no model."""

    def __init__(self, **settings: str) -> None:
        port = free_port()
        command = [*SERVE, "unsloth_trainer_service", f"--bind=127.0.0.1:{port}", "--workers=1"]
        super().__init__("trainer", command, port, **settings)

    def ask(self) -> Any:
        """Return whether it is ready."""
        return self.call("/health/ready")

    def call(self, path: str, body: Any = None) -> Any:
        """Return the JSON of an answer."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=300) as reply:  # noqa: S310
            return json.load(reply)


def _command(pid: int) -> str:
    return _read(pid, "cmdline").replace("\0", " ")


def _peak_bytes(pid: int) -> int:
    lines = _read(pid, "status").splitlines()
    peaks = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(peaks[0]) * 1024 if peaks else 0


def _heavy(pid: int) -> set[str]:
    """Return what of the heavy libraries a process has mapped."""
    maps = _read(pid, "maps")
    return {name for name in ("libtorch", "tokenizers", "pyarrow") if f"/{name}" in maps}


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.big_data", description=__doc__)
    parser.add_argument("rows", nargs="?", type=int, default=1_000_000)
    parser.add_argument("model", nargs="?", default=EMBEDDED_LLM)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        figures = big_data(options.rows, Path(folder), model=options.model)
    with recording("big_data") as record:
        table = record.table("rows", *COLUMNS)
        table.row(f"{options.rows:,}".replace(",", " "), *figures.cells())
    print(f"\nLoaded by the web worker: {', '.join(figures.worker_loaded) or 'none of it'}.")
    print(f"{figures.reading_events} events told how far the reading was.")


if __name__ == "__main__":
    main()
