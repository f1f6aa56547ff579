"""The transformers engine in process: its tokens beside `model.generate`, and their rate."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from benchmarks.gpu.finding import Finding, Scale
from benchmarks.llm_load import PROMPTS
from ml.generation.adapters import Adapters
from ml.generation.request import SamplingParameters
from ml.generation.transformers_engine import TransformersEngine
from ml.models.causal_lm import CausalLM, CausalLMOptions, load_causal_lm
from ml.models.embedded_llm import EMBEDDED_LLM

__all__ = ["engine"]

SLOTS, MAX_LENGTH, ROUNDS = 32, 1024, 2
ADAPTERS = ("first", "second")

#: Token ids of a prompt, and the adapter that reads them.
Asked = tuple[list[int], str | None]


def engine(scale: Scale) -> Iterator[Finding]:
    """Yield equality in float32, agreement in bfloat16, and tokens a second."""
    exact = _tuned_model(scale)
    with tempfile.TemporaryDirectory() as name:
        exact.save_pretrained(name, save_embedding_layers=False)
        yield from _equality(scale, Path(name), exact)
        loaded, plain = _load(scale, "bfloat16"), _plain_model(scale, "bfloat16")
        yield from _agreement(scale, loaded, {"bfloat16": plain, "float32": exact})
        yield from _rates(scale, loaded, Path(name))
    [prompt] = _prompts(loaded.tokenizer, 1)
    tokens = _tokens(scale)
    rate = _rate(partial(_generated, plain, prompt, tokens), tokens)
    yield Finding("bfloat16, c=1, model.generate", f"{rate:.0f} tokens/s")


def _tokens(scale: Scale) -> int:
    """Return the tokens of an answer whose time is taken."""
    return 4 if scale.quick else 64


def _load(scale: Scale, dtype: str) -> CausalLM:
    options = {"dtype": dtype, "device": scale.device}
    return load_causal_lm(EMBEDDED_LLM, CausalLMOptions.model_validate(options))


def _prompts(tokenizer: Any, count: int) -> list[list[int]]:
    """Return conversations, different ones, that share their system prompt alone."""
    texts = [f"{PROMPTS[number % len(PROMPTS)]} ({number})" for number in range(count)]
    return [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        for text in texts
    ]


def _plain_model(scale: Scale, dtype: str) -> Any:
    """Return a model that nothing of ours was done to; the end of a turn does not end an answer."""
    model = _load(scale, dtype).model
    model.generation_config.eos_token_id = None
    return model


def _answers(
    running: TransformersEngine,
    asked: Sequence[Asked],
    tokens: int,
    adapters: Adapters | None = None,
) -> list[list[int]]:
    """Return the tokens of answers that are made together."""

    async def answer(prompt: list[int], adapter: str | None) -> list[int]:
        parameters = SamplingParameters(max_new_tokens=tokens)
        async with contextlib.AsyncExitStack() as held:
            lease = None
            if adapters is not None and adapter is not None:
                lease = await held.enter_async_context(adapters.hold(adapter))
            steps = [step async for step in running.generate(prompt, parameters, lease)]
        if steps[-1].finished is not None and steps[-1].finished.error is not None:
            raise steps[-1].finished.error
        return [step.token.id for step in steps if step.token is not None]

    async def all_answers() -> list[list[int]]:
        return await asyncio.gather(*(answer(*one) for one in asked))

    return asyncio.run(all_answers())


@torch.inference_mode()
def _generated(model: Any, prompt: list[int], tokens: int) -> list[int]:
    """Return what `model.generate` answers."""
    ids = torch.tensor([prompt], device=model.device)
    mask = torch.ones_like(ids)
    made = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=tokens)
    return [int(token) for token in made[0, len(prompt) :]]


def _mixed(prompts: Sequence[list[int]]) -> list[Asked]:
    names = (None, *ADAPTERS)
    return [(prompt, names[number % len(names)]) for number, prompt in enumerate(prompts)]


def _tuned_model(scale: Scale) -> Any:
    """Return a model of peft in float32 with adapters that change what it answers."""
    config = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(_plain_model(scale, "float32"), config, adapter_name=ADAPTERS[0])
    for name in ADAPTERS[1:]:
        model.add_adapter(name, config)
    torch.manual_seed(0)
    for name, values in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(values, std=0.2)
    return model.eval()


def _engine(loaded: CausalLM, adapters: Adapters | None = None) -> TransformersEngine:
    return TransformersEngine(
        loaded.model, end_tokens=[], slots=SLOTS, max_length=MAX_LENGTH, adapters=adapters
    )


def _equality(scale: Scale, folder: Path, exact: Any) -> Iterator[Finding]:
    count, tokens = (3, 8) if scale.quick else (8, 48)
    loaded = _load(scale, "float32")
    adapters = Adapters(loaded.model, folder)
    running = _engine(loaded, adapters)
    prompts = _prompts(loaded.tokenizer, count)
    made = _answers(running, [(prompt, None) for prompt in prompts], tokens)
    with exact.disable_adapter():
        expected = [_generated(exact, prompt, tokens) for prompt in prompts]
    yield _same("float32, one batch, answers of model.generate", made, expected)

    mixed = _mixed(prompts)
    made = _answers(running, mixed, tokens, adapters)
    running.close()
    untuned = list(expected)
    for number, (prompt, adapter) in enumerate(mixed):
        if adapter is not None:
            exact.set_adapter(adapter)
            expected[number] = _generated(exact, prompt, tokens)
    assert expected != untuned, "the adapters change nothing"
    yield _same("float32, two adapters and none in one batch, answers of peft", made, expected)


def _same(what: str, made: list[list[int]], expected: list[list[int]]) -> Finding:
    same = sum(a == b for a, b in zip(made, expected, strict=True))
    return Finding(what, f"{same} of {len(made)}", same == len(made))


@torch.inference_mode()
def _agreement(scale: Scale, loaded: CausalLM, models: dict[str, Any]) -> Iterator[Finding]:
    """Compare each token with the likeliest one behind the same tokens."""
    count, tokens = (3, 8) if scale.quick else (8, 48)
    prompts = _prompts(loaded.tokenizer, count)
    running = _engine(loaded)
    made = _answers(running, [(prompt, None) for prompt in prompts], tokens)
    running.close()
    with models["float32"].disable_adapter():
        for dtype, model in models.items():
            agreed = 0
            for prompt, answer in zip(prompts, made, strict=True):
                ids = torch.tensor([prompt + answer], device=model.device)
                likeliest = model(ids).logits[0, len(prompt) - 1 : -1].argmax(-1)
                agreed += int((likeliest.cpu() == torch.tensor(answer)).sum())
            share = agreed / (count * tokens)
            what = f"bfloat16, tokens that are the likeliest of a forward pass in {dtype}"
            yield Finding(what, f"{share:.1%} of {count * tokens}", share > 0.9)


def _rates(scale: Scale, loaded: CausalLM, folder: Path) -> Iterator[Finding]:
    tokens = _tokens(scale)
    adapters = Adapters(loaded.model, folder)
    running = _engine(loaded, adapters)
    for c in scale.connections:
        prompts = _prompts(loaded.tokenizer, c)
        plain: list[Asked] = [(prompt, None) for prompt in prompts]
        kinds = {"": plain}
        if c == max(scale.connections):
            kinds[", two adapters and none"] = _mixed(prompts)
        for kind, asked in kinds.items():
            rate = _rate(partial(_answers, running, asked, tokens, adapters), c * tokens)
            yield Finding(f"bfloat16, c={c}{kind}", f"{rate:.0f} tokens/s")
    running.close()


def _rate(answer: Callable[[], object], tokens: int) -> float:
    """Return the tokens a second of several rounds; the one before them warms up."""
    answer()
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        answer()
        seconds.append(time.perf_counter() - began)
    return tokens / statistics.mean(seconds)
