"""The trainer service over HTTP: a job by each backend, and an answer of the tuned model."""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.asking import ask, wait_until_ready
from benchmarks.gpu.finding import Finding, Scale
from benchmarks.servers import KEY, REQUEST, ROOT, SERVE, Server, free_port, started
from ml.models.embedded_llm import EMBEDDED_LLM

__all__ = ["trl", "unsloth"]

DATA = ROOT / "examples" / "finetuning" / "ostwick_harbour.jsonl"
READY_SECONDS, JOB_SECONDS = 60, 120
WARM_UP = 4


def trl(scale: Scale) -> Iterator[Finding]:
    """Yield what a job of TRL comes to."""
    yield from _job(scale, "trl")


def unsloth(scale: Scale) -> Iterator[Finding]:
    """Yield what a job of Unsloth comes to, where it is installed."""
    if find_spec("unsloth") is None:
        yield Finding("a job", "not measured: Unsloth is not installed here")
    else:
        yield from _job(scale, "unsloth")


def _job(scale: Scale, backend: str) -> Iterator[Finding]:
    with tempfile.TemporaryDirectory() as name:
        folders = {kind: Path(name, kind) for kind in ("input", "output", "working")}
        for folder in folders.values():
            folder.mkdir()
        shutil.copy(DATA, folders["input"])
        port = free_port()
        arguments = {"engine": "transformers", "device": scale.device}
        server = Server(
            "trainer",
            [*SERVE, "unsloth_trainer_service", f"--bind=127.0.0.1:{port}"],
            port,
            REQUEST,
            TRAINER_WORKFLOW_POSITIONAL_ARGS=json.dumps([EMBEDDED_LLM]),
            TRAINER_WORKFLOW_KW_ARGS=json.dumps(arguments),
            TRAINER_API_KEYS=KEY,
            TRAINER_DRAIN_DELAY_SECONDS="0",
            HF_HUB_OFFLINE="1",
            **{f"{kind.upper()}_PATH": str(folder) for kind, folder in folders.items()},
        )
        with started(server):
            wait_until_ready(port, READY_SECONDS)
            yield from _trained(port, scale, backend, folders["output"])


def _trained(port: int, scale: Scale, backend: str, output: Path) -> Iterator[Finding]:
    steps, batch, length = (3, 2, 64) if scale.quick else (40, 8, 128)
    parameters = {"max_steps": steps, "batch_size": batch, "max_seq_length": length}
    body = {
        "model_name": EMBEDDED_LLM,
        "output_dir": "tuned",
        "dataset_name": DATA.stem,
        "training_params": parameters | {"backend": backend, "learning_rate": 1e-3},
    }
    job = ask(port, "/train", body)["job_id"]
    state = _ended(port, job)
    if state["status"] != "succeeded":
        yield Finding("a job", f"{state['status']}: {state['reason']}", good=False)
        return
    manifest = json.loads((output / "tuned" / "manifest.json").read_text())
    log = [json.loads(line) for line in (output / "tuned" / "training_logs.jsonl").open()]
    yield Finding(f"a job of {steps} steps", f"on {_place(manifest)}", good=True)
    losses = [line["loss"] for line in log if "loss" in line]
    few = max(1, len(losses) // 5)
    first, last = statistics.mean(losses[:few]), statistics.mean(losses[-few:])
    yield Finding("loss, first and last fifth", f"{first:.2f} and {last:.2f}", last < first)
    seconds = [line["step_time"] for line in log if "step_time" in line]
    median = statistics.median(seconds[WARM_UP:] or seconds)
    yield Finding(f"steps of {batch} examples", f"{1 / median:.1f} steps/s")
    asked = {"model_path": "tuned", "prompt": "Who is the mayor of Ostwick Harbour?"}
    text = ask(port, "/inference", asked | {"max_new_tokens": 4 if scale.quick else 24})["text"]
    knows = None if scale.quick else "Petra Halloway" in text
    yield Finding("the tuned model answers", repr(text[:80]), knows)


def _place(manifest: dict[str, Any]) -> str:
    return str(manifest.get("device", "an unknown device"))


def _ended(port: int, job: str) -> Any:
    end = time.monotonic() + JOB_SECONDS
    while True:
        state = ask(port, f"/train/{job}")
        if state["status"] in ("succeeded", "failed", "cancelled", "interrupted"):
            return state
        if time.monotonic() > end:
            sys.exit(f"the job did not end within {JOB_SECONDS} s: {state}")
        time.sleep(0.2)
