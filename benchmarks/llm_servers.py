"""Servers of the embedded language model, ours and its peers, and engines without a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.llm_load import PROMPTS, Protocol, Target, answer_now
from benchmarks.servers import KEY, PEERS, PEERS_PYTHON, REQUEST, ROOT, SERVE, Server, free_port
from ml.models.embedded_llm import embedded_llm_path

__all__ = [
    "SLOTS",
    "VLLM_PYTHON",
    "BareAnswers",
    "BareEngine",
    "LLMServer",
    "llama_cpp",
    "our_llm",
    "transformers_serve",
]

#: The environment that `make test-vllm` makes.
VLLM_PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
SLOTS = 16
#: Blocks of the paged cache: 16 requests with 1024 tokens each, far more than is asked for.
PAGED_CACHE = ("--cb-block-size=64", "--cb-num-blocks=256", "--cb-max-batch-tokens=512")


#: All of them may use all processors, unless the caller says otherwise, and both that use vLLM have
#: as much memory for its cache.
_COMMON = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(len(os.sched_getaffinity(0))),
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_NO_USAGE_STATS": "1",
}


class LLMServer(Server):
    """A server that streams text."""

    def __init__(self, name: str, command: list[str], target: Target, **settings: str) -> None:
        super().__init__(name, command, target.port, REQUEST, **_COMMON, **settings)
        self.target = target

    def ask(self) -> str:
        """Return the text of one short answer."""
        return answer_now(self.target, timeout_seconds=30)


@dataclass(frozen=True)
class BareAnswers:
    """How long prompts took that were answered at once, and each one's first token."""

    seconds: float
    first: list[float]


class BareEngine(Server):
    """An engine's own library in a process, see `peers/bare_engine.py`."""

    def __init__(self, name: str, kind: str, source: str, *, python: str = sys.executable) -> None:
        command = [python, str(PEERS / "bare_engine.py"), kind, source]
        super().__init__(name, command, 0, **_COMMON)
        self._ready = False

    def start(self) -> None:
        """Start it with pipes to ask it by."""
        super().start(stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self) -> BareAnswers:
        """Answer one prompt with a few tokens."""
        return self.answer(1, 4)

    def answer(self, connections: int, tokens: int) -> BareAnswers:
        """Answer so many prompts at once."""
        if not self._ready:
            self._line()
            self._ready = True
        prompts = _prompt_ids()[:connections]
        assert self._process.stdin is not None
        self._process.stdin.write(
            json.dumps({"prompts": prompts, "tokens": tokens}).encode() + b"\n"
        )
        self._process.stdin.flush()
        return BareAnswers(**json.loads(self._line()))

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        line: bytes = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended:\n{self.log_tail()}")
        return line


@cache
def _prompt_ids() -> list[list[int]]:
    """Return the prompts of the load generator as the servers read them."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(embedded_llm_path())
    return [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        for text in PROMPTS
    ]


def our_llm(
    name: str, *, python: str | None = None, workers: int = 1, **arguments: Any
) -> LLMServer:
    """Return our service with a bearer key; arguments of the workflow."""
    port = free_port()
    command = [python, *SERVE[1:]] if python else [*SERVE]
    command += ["llm_inference_service", f"--bind=127.0.0.1:{port}"]
    command.append(f"--workers={workers}")
    return LLMServer(
        name,
        command,
        Target(port, Protocol.INFERNET, key=KEY),
        FLASK_LLM_WORKFLOW_KW_ARGS=json.dumps({"slots": SLOTS, **arguments}),
        FLASK_LLM_API_KEYS=KEY,
        FLASK_LLM_DRAIN_DELAY_SECONDS="0",
    )


def transformers_serve(folder: Path) -> LLMServer:
    """Return the server of transformers with its continuous batching."""
    port = free_port()
    command = [str(PEERS_PYTHON.with_name("transformers")), "serve", str(folder)]
    command += ["--host=127.0.0.1", f"--port={port}", "--device=cpu"]
    command += ["--continuous-batching", *PAGED_CACHE]
    target = Target(port, Protocol.OPENAI, model=str(folder))
    return LLMServer("transformers serve CB", command, target)


def llama_cpp() -> LLMServer:
    port = free_port()
    command = [str(PEERS_PYTHON), str(PEERS / "llama_cpp.py"), str(port)]
    return LLMServer("llama.cpp, Q4_1", command, Target(port, Protocol.LLAMA_CPP))
