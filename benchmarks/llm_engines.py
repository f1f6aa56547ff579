"""Measures what each engine makes of the embedded model in one process: tokens a second, greedy.

    python -m benchmarks.llm_engines

Each engine in turn answers 1, 8 and 16 prompts at once with 64 tokens, three rounds of it; the
middle one counts. `openvino-genai` is the library alone, with the scheduler's settings of ours.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ml.generation.engine import Engine
from ml.generation.openvino_engine import OpenVINOEngine
from ml.generation.openvino_process import open_pipeline
from ml.generation.request import SamplingParameters
from ml.generation.transformers_engine import TransformersEngine
from ml.models.causal_lm import load_causal_lm
from ml.models.embedded_llm import EMBEDDED_LLM, install
from ml.models.openvino_model import load_openvino_model

AT_ONCE = (1, 8, 16)
TOKENS, ROUNDS, MAX_LENGTH = 64, 3, 512

#: Answers prompts at once, each with `TOKENS` tokens.
Answer = Callable[[list[list[int]]], Awaitable[None]]


def prompts(tokenizer: Any, count: int) -> list[list[int]]:
    """Return conversations that share their system prompt alone."""
    texts = [f"What is the number {number} good for?" for number in range(count)]
    return [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        for text in texts
    ]


def by_engine(engine: Engine) -> Answer:
    async def read(prompt: list[int]) -> None:
        parameters = SamplingParameters(max_new_tokens=TOKENS)
        assert len([step async for step in engine.generate(prompt, parameters)]) == TOKENS

    async def answer(asked: list[list[int]]) -> None:
        await asyncio.gather(*map(read, asked))

    return answer


def by_library(pipeline: Any) -> Answer:
    import numpy as np
    from openvino import Tensor
    from openvino_genai import GenerationConfig

    async def answer(asked: list[list[int]]) -> None:
        config = GenerationConfig(max_new_tokens=TOKENS, ignore_eos=True)
        # A request whose handle is gone is given up.
        handles = [
            pipeline.add_request(number, Tensor(np.array([prompt], dtype=np.int64)), config)
            for number, prompt in enumerate(asked)
        ]
        while pipeline.has_non_finished_requests():
            pipeline.step()
        assert all(len(handle.read_all()[0].generated_ids) == TOKENS for handle in handles)

    return answer


def measure(name: str, answer: Answer, tokenizer: Any) -> None:
    rates = []
    for count in AT_ONCE:
        asked = prompts(tokenizer, count)
        asyncio.run(answer(asked))  # its kernels are made
        seconds = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            asyncio.run(answer(asked))
            seconds.append(time.perf_counter() - started)
        rates.append(count * TOKENS / statistics.median(seconds))
    load = os.getloadavg()[0]
    print(f"| {name} | " + " | ".join(f"{rate:.0f}" for rate in rates) + f" | {load:.1f} |")


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(prog="benchmarks.llm_engines", description=__doc__).parse_args()
    install()
    print("| engine | " + " | ".join(f"c={count}" for count in AT_ONCE) + " | load |")
    print("|---|" + "---|" * (len(AT_ONCE) + 1))
    loaded = load_openvino_model(EMBEDDED_LLM)
    settings: dict[str, Any] = {"slots": max(AT_ONCE), "max_length": MAX_LENGTH}
    source = str(loaded.source)
    library = open_pipeline(source, **settings, reuse_prefixes=True, cache_gib=None)
    measure("openvino-genai", by_library(library), loaded.tokenizer)
    del library
    ours = OpenVINOEngine(loaded, end_tokens=[], **settings)
    ours.open()
    measure("openvino", by_engine(ours), loaded.tokenizer)
    ours.close()
    torch_engine = TransformersEngine(load_causal_lm(EMBEDDED_LLM).model, end_tokens=[], **settings)
    measure("transformers", by_engine(torch_engine), loaded.tokenizer)
    torch_engine.close()


if __name__ == "__main__":
    main()
