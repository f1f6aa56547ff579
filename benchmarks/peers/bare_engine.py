"""An engine's own library in one process, without HTTP: what a service over it could reach.

    python benchmarks/peers/bare_engine.py openvino|vllm SOURCE

Reads lines of JSON, `{"prompts": [[token ids]], "tokens": 64}`, answers all prompts at once and
greedily, each with so many tokens, and prints `{"seconds": …, "first": […]}`: until all were
answered, and until each had its first token. Prints `{}` first, when it is ready.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

SLOTS, MAX_LENGTH = 16, 512

#: Answers prompts with so many tokens; returns the seconds until each one's first.
Answer = Callable[[list[list[int]], int], list[float]]


def openvino(source: str) -> Answer:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import numpy as np
    from openvino import Tensor
    from openvino_genai import ContinuousBatchingPipeline, GenerationConfig, SchedulerConfig

    scheduler = SchedulerConfig()
    scheduler.max_num_seqs = SLOTS
    scheduler.num_kv_blocks = SLOTS * MAX_LENGTH // 32
    scheduler.enable_prefix_caching = True
    pipeline = ContinuousBatchingPipeline(source, scheduler, "CPU")

    def answer(prompts: list[list[int]], tokens: int) -> list[float]:
        began = time.perf_counter()
        config = GenerationConfig(max_new_tokens=tokens, ignore_eos=True)
        handles = [
            pipeline.add_request(number, Tensor(np.array([prompt], dtype=np.int64)), config)
            for number, prompt in enumerate(prompts)
        ]
        made, first = [0] * len(handles), [0.0] * len(handles)
        while pipeline.has_non_finished_requests():
            pipeline.step()
            for number, handle in enumerate(handles):
                while handle.can_read():
                    read = sum(len(part.generated_ids) for part in handle.read().values())
                    first[number] = first[number] or time.perf_counter() - began
                    made[number] += read
        assert made == [tokens] * len(handles), made
        return first

    return answer


def vllm(source: str) -> Answer:
    import asyncio

    from vllm import AsyncEngineArgs, SamplingParams
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.async_llm import AsyncLLM

    arguments = AsyncEngineArgs(
        model=source,
        dtype="bfloat16",
        max_num_seqs=SLOTS,
        max_model_len=MAX_LENGTH,
        enforce_eager=True,
        disable_log_stats=True,
    )
    runner = asyncio.Runner()

    async def start() -> AsyncLLM:
        return AsyncLLM.from_engine_args(arguments)

    llm = runner.run(start())
    numbers = iter(range(1_000_000))

    async def one(prompt: list[int], tokens: int) -> float:
        began, first, made = time.perf_counter(), 0.0, 0
        params = SamplingParams(
            temperature=0.0,
            max_tokens=tokens,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        given: Any = {"type": "token", "prompt_token_ids": prompt}
        async for output in llm.generate(given, params, request_id=str(next(numbers))):
            first = first or time.perf_counter() - began
            made += len(output.outputs[0].token_ids)
        assert made == tokens, made
        return first

    async def all_of(prompts: list[list[int]], tokens: int) -> list[float]:
        return await asyncio.gather(*(one(prompt, tokens) for prompt in prompts))

    return lambda prompts, tokens: runner.run(all_of(prompts, tokens))


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is none
    answer = {"openvino": openvino, "vllm": vllm}[sys.argv[1]](sys.argv[2])
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        began = time.perf_counter()
        first = answer(asked["prompts"], asked["tokens"])
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "first": first}), file=answers, flush=True)
    answers.close()
    os._exit(0)  # what a library would wait for is nobody's any more


if __name__ == "__main__":
    main()
