"""What it costs to hand a request on to the replica with its adapter, and to load one instead."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.figures import Figure
from benchmarks.results import Record, Table
from benchmarks.servers import SERVE, free_port
from ml.models.embedded_llm import embedded_llm_path
from tests.support.processes import until
from tests.support.ray_cluster import RayCluster, ray_command
from tests.support.tiny_llm import save_adapter, save_tiny_llm

__all__ = ["adapters"]

ADAPTERS = ("a", "b", "c", "d")
ASKED = 60
TOKENS = (1, 64)
#: How long it takes until all know what a replica has loaded.
TOLD_WITHIN_SECONDS = 6.0
HEADER = "serve-multiplexed-model-id"


def adapters(record: Record, cluster: RayCluster) -> None:
    """Measure times of a tiny model, which takes next to none itself, and loads for a real one."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = save_tiny_llm(folder / "tiny")
        for seed, adapter in enumerate(ADAPTERS):
            save_adapter(model, folder / "adapters" / adapter, seed=seed)
        with _Service(cluster, port, model, folder / "adapters", max_adapters=2):
            _place(port)
            columns = ("no adapter", "named in the head", "in the body alone", "handed on")
            table = record.table("a stream, two replicas, c=1, mean", *columns)
            for tokens in TOKENS:
                _add_times(table, port, tokens)
        embedded = Path(embedded_llm_path())
        for seed, adapter in enumerate(ADAPTERS):
            save_adapter(embedded, folder / "real" / adapter, seed=seed)
        with _Service(cluster, port, embedded, folder / "real", max_adapters=1):
            taken = [_load(port, adapter) for _ in range(5) for adapter in ADAPTERS]
    seconds = Figure.of(*(1e3 * one for one in taken), places=0, unit="ms")
    record.table("an adapter of rank 4", "is loaded in").row(embedded.name, seconds)


class _Service:
    """The LLM service on two replicas, for as long as the block runs."""

    def __init__(
        self, cluster: RayCluster, port: int, model: Path, adapters: Path, max_adapters: int
    ) -> None:
        command = ray_command()
        assert command is not None
        arguments = {
            "engine": "transformers",
            "adapters_path": str(adapters),
            "max_adapters": max_adapters,
        }
        variables = {
            "FLASK_LLM_WORKFLOW_POSITIONAL_ARGS": json.dumps([str(model)]),
            "FLASK_LLM_WORKFLOW_KW_ARGS": json.dumps(arguments),
            "FLASK_LLM_LOG_REQUESTS": "false",
            "RAY_ADDRESS": cluster.gcs_address,
        }
        python = str(Path(command).with_name("python"))
        options = ["--on=ray", "--replicas=2", "--cpus=0.5", f"--bind=127.0.0.1:{port}"]
        self._start: dict[str, Any] = {
            "args": [python, *SERVE[1:], "llm", *options],
            "env": {**os.environ, **cluster.environment, **variables},
            "stdout": subprocess.PIPE,
            "text": True,
        }

    def __enter__(self) -> None:
        self._process = subprocess.Popen(**self._start)
        assert self._process.stdout is not None
        until(lambda: "answers on port" in self._process.stdout.readline(), "it answers", 180)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=120)


def _ask(
    client: httpx.Client, port: int, model: str, tokens: int, *, in_head: bool = False
) -> float:
    message = [{"role": "user", "content": "Tell me a story."}]
    body = {"model": model, "messages": message, "max_tokens": tokens, "stream": True}
    headers = {HEADER: model} if in_head else {}
    began = time.perf_counter()
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    reply = client.post(url, json=body, headers=headers, timeout=60)
    if reply.status_code != 200:
        raise SystemExit(reply.text)
    return time.perf_counter() - began


def _place(port: int) -> None:
    """Have each adapter loaded, each time once all know where there is room."""
    with httpx.Client() as client:
        for adapter in ADAPTERS:
            _ask(client, port, adapter, 1, in_head=True)
            time.sleep(TOLD_WITHIN_SECONDS)


def _add_times(table: Table, port: int, tokens: int) -> None:
    plain, head, body = [], [], []
    with httpx.Client() as client:
        for number in range(ASKED):
            adapter = ADAPTERS[number % len(ADAPTERS)]
            plain.append(_ask(client, port, "tiny", tokens))
            head.append(_ask(client, port, adapter, tokens, in_head=True))
            body.append(_ask(client, port, adapter, tokens))
    means = [1e3 * statistics.mean(times) for times in (plain, head, body)]
    # One half of what names its adapter in the body alone comes to the replica that has it.
    means.append(means[1] + 2 * (means[2] - means[1]))
    table.row(f"{tokens} tokens", *(Figure.of(ms, places=1, unit="ms") for ms in means))


def _load(port: int, adapter: str) -> float:
    """Return the seconds of a load; there is room for one adapter, so each call loads."""
    began = time.perf_counter()
    url = f"http://127.0.0.1:{port}/v1/adapters"
    reply = httpx.post(url, json={"name": adapter}, timeout=60)
    if reply.status_code != 200:
        raise SystemExit(reply.text)
    return time.perf_counter() - began
