"""Servers of the embedded language model: ours and its peers, on one compute thread each."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.llm_load import Protocol, Target, answer_now
from benchmarks.servers import KEY, PEERS, PEERS_PYTHON, REQUEST, SERVE, Server, free_port

__all__ = [
    "LLMServer",
    "bare_generate",
    "llama_cpp",
    "our_llm",
    "transformers_serve",
]

#: Blocks of the paged cache: 16 requests with 1024 tokens each, far more than is asked for.
PAGED_CACHE = ("--cb-block-size=64", "--cb-num-blocks=256", "--cb-max-batch-tokens=512")


class LLMServer(Server):
    """A server that streams text.

    `once` if one round tells enough of many connections: because its requests stand in line,
    which only gets longer, or because no target is measured by it.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        target: Target,
        *,
        once: bool = False,
        **settings: str,
    ) -> None:
        super().__init__(name, command, target.port, REQUEST, HF_HUB_OFFLINE="1", **settings)
        self.target = target
        self.once = once

    def ask(self) -> str:
        """Return the text of one short answer."""
        return answer_now(self.target, timeout_seconds=30)


def our_llm(name: str, folder: Path, **arguments: Any) -> LLMServer:
    """Return our service with one worker and a bearer key; arguments of the workflow."""
    port = free_port()
    command = [*SERVE, "llm_inference_service", f"--bind=127.0.0.1:{port}", "--workers=1"]
    return LLMServer(
        name,
        command,
        Target(port, Protocol.INFERNET, key=KEY),
        FLASK_LLM_WORKFLOW_KW_ARGS=json.dumps(
            {"model": str(folder), "dtype": "bfloat16", **arguments}
        ),
        FLASK_LLM_API_KEYS=KEY,
        FLASK_LLM_DRAIN_DELAY_SECONDS="0",
    )


def bare_generate(folder: Path) -> LLMServer:
    port = free_port()
    command = [sys.executable, str(PEERS / "bare_generate.py"), str(port), str(folder)]
    return LLMServer("bare generate", command, Target(port, Protocol.INFERNET), once=True)


def transformers_serve(folder: Path, *, continuous_batching: bool) -> LLMServer:
    port = free_port()
    command = [str(PEERS_PYTHON.with_name("transformers")), "serve", str(folder)]
    command += ["--host=127.0.0.1", f"--port={port}", "--device=cpu"]
    name = "transformers serve"
    if continuous_batching:
        command += ["--continuous-batching", *PAGED_CACHE]
        name += " CB"
    target = Target(port, Protocol.OPENAI, model=str(folder))
    return LLMServer(name, command, target, once=not continuous_batching)


def llama_cpp() -> LLMServer:
    port = free_port()
    command = [str(PEERS_PYTHON), str(PEERS / "llama_cpp.py"), str(port)]
    return LLMServer("llama.cpp, Q4_1", command, Target(port, Protocol.LLAMA_CPP), once=True)
