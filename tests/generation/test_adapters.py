"""Many LoRA adapters in one batch, on a small model with random weights in float32."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import peft
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ml.errors import InvalidInput, NotFound, NotReady, Overloaded
from ml.generation.adapter_leases import AdapterState, Lease
from ml.generation.adapters import Adapters
from ml.generation.request import Finished, FinishReason, SamplingParameters
from ml.generation.transformers_engine import TransformersEngine
from tests.support.adapters import (
    MAX_LENGTH,
    SHAPES,
    change_weights,
    in_use,
    loaded,
    new_model,
    save_adapter,
)
from tests.support.requests import eventually

GREEDY = SamplingParameters(max_new_tokens=24)
PROMPTS = [[5, 9, 2], [7], list(range(3, 90)), [4, 4, 4, 4], list(range(100, 400))]


@pytest.fixture
def engine(model: Any, adapters: Adapters) -> Iterator[TransformersEngine]:
    engine = TransformersEngine(
        model, end_tokens=[], slots=4, max_length=MAX_LENGTH, adapters=adapters
    )
    yield engine
    engine.close()


async def generate(
    engine: TransformersEngine,
    prompt: list[int],
    parameters: SamplingParameters,
    adapter: Lease | None = None,
) -> tuple[list[int], Finished]:
    ids: list[int] = []
    async for step in engine.generate(prompt, parameters, adapter):
        if step.token is not None:
            ids.append(step.token.id)
        if step.finished is not None:
            return ids, step.finished
    raise AssertionError("no end")


async def answer(
    engine: TransformersEngine,
    adapters: Adapters,
    name: str | None,
    prompt: list[int],
    count: int = 24,
) -> list[int]:
    parameters = SamplingParameters(max_new_tokens=count)
    if name is None:
        return (await generate(engine, prompt, parameters))[0]
    async with adapters.hold(name) as lease:
        return (await generate(engine, prompt, parameters, lease))[0]


def reference(folder: Path | None, prompt: list[int], count: int = 24) -> list[int]:
    """Return the greedy tokens of peft, or of the model alone."""
    model = new_model() if folder is None else peft.PeftModel.from_pretrained(new_model(), folder)
    ids = torch.tensor([prompt])
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    tokens: list[int] = output[0, len(prompt) :].tolist()
    return tokens


# --- what is generated ------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHAPES)
async def test_greedy_tokens_are_those_of_peft(
    engine: TransformersEngine, adapters: Adapters, root: Path, name: str
) -> None:
    for prompt in PROMPTS:
        expected = reference(root / name, prompt)
        assert await answer(engine, adapters, name, prompt) == expected
        assert expected != reference(None, prompt)


async def test_adapters_and_the_base_model_share_a_batch_without_changing_each_other(
    engine: TransformersEngine, adapters: Adapters, root: Path
) -> None:
    """Fifteen requests on four slots, of different lengths, joining one after the other."""
    names = [None, "all-linear", "attention", "rslora", "patterns"]

    async def later(number: int) -> list[int]:
        await asyncio.sleep(number * 0.01)
        prompt, count = PROMPTS[number % 4], 6 + 7 * (number % 3)
        return await answer(engine, adapters, names[number % 5], prompt, count)

    results = await asyncio.gather(*(later(number) for number in range(15)))
    for number, ids in enumerate(results):
        name = names[number % 5]
        folder = None if name is None else root / name
        assert ids == reference(folder, PROMPTS[number % 4], 6 + 7 * (number % 3))
    assert not in_use(adapters)


async def test_an_adapter_may_be_saved_in_another_dtype_than_the_model_has(
    engine: TransformersEngine, adapters: Adapters, root: Path
) -> None:
    def halve(tensors: dict[str, torch.Tensor]) -> None:
        tensors |= {name: tensor.bfloat16() for name, tensor in tensors.items()}

    change_weights(root / "all-linear", halve)
    expected = reference(root / "all-linear", PROMPTS[0])
    assert await answer(engine, adapters, "all-linear", PROMPTS[0]) == expected


async def test_a_running_answer_goes_on_while_adapters_of_higher_rank_are_loaded(
    engine: TransformersEngine, adapters: Adapters, root: Path
) -> None:
    others = ("all-linear", "rslora", "attention")
    expected = {name: reference(root / name, PROMPTS[1], 4) for name in others}
    long = reference(root / "output", PROMPTS[0], 450)
    running = asyncio.create_task(answer(engine, adapters, "output", PROMPTS[0], 450))
    await eventually(lambda: "output" in in_use(adapters))
    for name in others:
        assert await answer(engine, adapters, name, PROMPTS[1], 4) == expected[name]
    assert not running.done()
    assert await running == long


def test_an_adapter_whose_numbers_overflow_leaves_the_other_rows_alone(
    model: Any, adapters: Adapters, root: Path
) -> None:
    def blow_up(tensors: dict[str, torch.Tensor]) -> None:
        for tensor in tensors.values():
            tensor.fill_(1e38)

    change_weights(root / "all-linear", blow_up)
    ids = torch.tensor([PROMPTS[0]] * 3)
    with torch.inference_mode():
        base = model(ids).logits[2]
        broken, sound = adapters.acquire("all-linear"), adapters.acquire("rslora")
        adapters.select([sound, sound, sound])
        expected = model(ids).logits[1]
        adapters.select([broken, sound, None])
        logits = model(ids).logits
    assert not logits[0].isfinite().any()
    torch.testing.assert_close(logits[1], expected)
    assert torch.equal(logits[2], base)


class _Operations(TorchDispatchMode):
    """Counts what is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_a_step_without_adapters_computes_what_the_model_alone_does(
    model: Any, adapters: Adapters
) -> None:
    ids = torch.tensor([PROMPTS[0], PROMPTS[0]])
    with torch.inference_mode(), _Operations() as alone:
        expected = model(ids).logits
    with adapters.acquire("all-linear") as lease, torch.inference_mode():
        adapters.select([lease, None])
        with _Operations() as mixed:
            logits = model(ids).logits
        assert torch.equal(logits[1], expected[1])
        assert not torch.allclose(logits[0], expected[0])
        adapters.select([None, None])
        with _Operations() as none:
            logits = model(ids).logits
        assert torch.equal(logits, expected)
    assert none.count == alone.count < mixed.count


# --- leases -----------------------------------------------------------------------------------


async def test_a_reader_that_leaves_gives_the_adapter_back(
    engine: TransformersEngine, adapters: Adapters
) -> None:
    """Twelve readers leave after two tokens, three times the slots, so that some had to wait."""

    async def leave_early() -> None:
        async with adapters.hold("attention") as lease:
            steps = engine.generate(PROMPTS[0], SamplingParameters(max_new_tokens=400), lease)
            await anext(steps)
            await anext(steps)
            await steps.aclose()

    async with asyncio.timeout(30):
        await asyncio.gather(*(leave_early() for _ in range(12)))
        await eventually(lambda: not in_use(adapters))


async def test_a_request_that_is_cancelled_while_it_waits_gives_the_adapter_back(
    engine: TransformersEngine, adapters: Adapters
) -> None:
    long = [asyncio.create_task(answer(engine, adapters, None, PROMPTS[1], 400)) for _ in range(4)]
    await asyncio.sleep(0.05)
    waiting = asyncio.create_task(answer(engine, adapters, "attention", PROMPTS[0]))
    await eventually(lambda: "attention" in in_use(adapters))
    waiting.cancel()
    await asyncio.gather(*long)
    await eventually(lambda: not in_use(adapters))


async def test_the_engine_holds_the_adapter_when_the_caller_no_longer_does(
    engine: TransformersEngine, adapters: Adapters, root: Path
) -> None:
    lease = adapters.acquire("attention")
    steps = engine.generate(PROMPTS[0], SamplingParameters(max_new_tokens=300), lease)
    first = await anext(steps)
    lease.close()
    lease.close()
    assert in_use(adapters) == {"attention"}
    tokens = [step.token async for step in steps]
    ids = [token.id for token in (first.token, *tokens) if token is not None]
    assert ids == reference(root / "attention", PROMPTS[0], 300)
    assert not in_use(adapters)


async def test_a_request_that_fails_gives_the_adapter_back(
    engine: TransformersEngine, adapters: Adapters
) -> None:
    with adapters.acquire("attention") as lease:
        _, finished = await generate(engine, [10**6], GREEDY, lease)  # no such token
    assert finished.reason is FinishReason.ERROR
    assert not in_use(adapters)


async def test_closing_the_engine_gives_the_adapters_back(
    engine: TransformersEngine, adapters: Adapters
) -> None:
    with adapters.acquire("attention") as lease:
        steps = engine.generate(PROMPTS[0], SamplingParameters(max_new_tokens=400), lease)
        await anext(steps)
        await asyncio.to_thread(engine.close)
        with pytest.raises(NotReady):
            await generate(engine, PROMPTS[0], GREEDY, lease)
    assert not in_use(adapters)


async def test_a_caller_that_is_cancelled_while_its_adapter_loads_leaves_no_lease(
    adapters: Adapters,
) -> None:
    async def hold() -> None:
        async with adapters.hold("all-linear"):
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await asyncio.sleep(0)  # it has begun, and a thread reads the files
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: loaded(adapters) == {"all-linear"} and not in_use(adapters))


async def test_an_engine_without_adapters_refuses_a_lease_instead_of_ignoring_it(
    model: Any, adapters: Adapters
) -> None:
    engine = TransformersEngine(model, end_tokens=[], slots=2, max_length=MAX_LENGTH)
    try:
        with adapters.acquire("attention") as lease, pytest.raises(ValueError, match="without"):
            await generate(engine, PROMPTS[0], GREEDY, lease)
    finally:
        engine.close()


async def test_a_closed_lease_starts_no_request(
    engine: TransformersEngine, adapters: Adapters
) -> None:
    lease = adapters.acquire("attention")
    lease.close()
    with pytest.raises(ValueError, match="closed"):
        await generate(engine, PROMPTS[0], GREEDY, lease)


# --- which are loaded -------------------------------------------------------------------------


def test_the_folder_and_what_is_loaded_of_it_can_be_listed(adapters: Adapters, root: Path) -> None:
    (root / "no-adapter").mkdir()
    (root / "a-file").touch()
    with adapters.acquire("rslora"):
        adapters.acquire("attention").close()
        assert adapters.available() == [
            AdapterState("all-linear", loaded=False, in_use=False),
            AdapterState("attention", loaded=True, in_use=False),
            AdapterState("output", loaded=False, in_use=False),
            AdapterState("patterns", loaded=False, in_use=False),
            AdapterState("rslora", loaded=True, in_use=True),
        ]


async def test_the_adapter_whose_last_use_is_longest_ago_makes_room(model: Any, root: Path) -> None:
    adapters = Adapters(model, root, max_adapters=2, max_rank=16)
    engine = TransformersEngine(
        model, end_tokens=[], slots=2, max_length=MAX_LENGTH, adapters=adapters
    )
    try:
        for name, then in (
            ("attention", {"attention"}),
            ("rslora", {"attention", "rslora"}),
            ("attention", {"attention", "rslora"}),
            ("output", {"attention", "output"}),
            ("rslora", {"output", "rslora"}),
        ):
            ids = await answer(engine, adapters, name, PROMPTS[0])
            assert ids == reference(root / name, PROMPTS[0])
            assert loaded(adapters) == then
    finally:
        engine.close()


def test_an_adapter_in_use_is_never_evicted(model: Any, root: Path) -> None:
    adapters = Adapters(model, root, max_adapters=2, max_rank=16)
    with adapters.acquire("attention"):
        with adapters.acquire("rslora") as other:
            with pytest.raises(Overloaded) as raised:
                adapters.acquire("output")
            assert raised.value.retry_after_seconds
            other.close()
            adapters.acquire("output").close()
            assert loaded(adapters) == {"attention", "output"}
        assert in_use(adapters) == {"attention"}


def test_an_adapter_that_many_ask_for_at_once_is_loaded_once(
    adapters: Adapters, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ml.generation.adapters")
    together = Barrier(8)

    def use(_: int) -> int:
        together.wait()
        with adapters.acquire("attention") as lease:
            return lease.slot

    with ThreadPoolExecutor(8) as pool:
        slots = list(pool.map(use, range(8)))
    assert len(set(slots)) == 1
    assert sum("attention loaded" in message for message in caplog.messages) == 1
    assert not in_use(adapters)


async def test_an_adapter_that_changed_on_disk_is_loaded_again_when_nobody_uses_it(
    engine: TransformersEngine, adapters: Adapters, root: Path
) -> None:
    old = reference(root / "attention", PROMPTS[0])
    save_adapter(root / "new", seed=99, **SHAPES["all-linear"])
    new = reference(root / "new", PROMPTS[0])
    async with adapters.hold("attention"):
        shutil.copytree(root / "new", root / "attention", dirs_exist_ok=True)
        assert await answer(engine, adapters, "attention", PROMPTS[0]) == old
    assert await answer(engine, adapters, "attention", PROMPTS[0]) == new
    assert old != new


async def test_an_adapter_that_is_damaged_after_it_was_loaded_is_refused_until_it_is_whole(
    engine: TransformersEngine, adapters: Adapters, root: Path
) -> None:
    expected = await answer(engine, adapters, "attention", PROMPTS[0])
    path = root / "attention" / "adapter_model.safetensors"
    whole = path.read_bytes()
    async with adapters.hold("attention"):
        path.write_bytes(whole[:1000])
        assert await answer(engine, adapters, "attention", PROMPTS[0]) == expected
    with pytest.raises(InvalidInput, match="damaged or incomplete"):
        adapters.acquire("attention")
    path.write_bytes(whole)
    assert await answer(engine, adapters, "attention", PROMPTS[0]) == expected


def test_unloading_waits_for_those_who_use_the_adapter(adapters: Adapters) -> None:
    with adapters.acquire("attention"):
        assert adapters.unload("attention") is False
        assert loaded(adapters) == {"attention"}
    assert loaded(adapters) == set()
    adapters.acquire("attention").close()
    assert adapters.unload("attention") is True
    assert loaded(adapters) == set()
    assert adapters.unload("attention") is True


def test_a_new_request_keeps_an_adapter_that_was_to_be_unloaded(adapters: Adapters) -> None:
    with adapters.acquire("attention") as lease:
        adapters.unload("attention")
        lease.share().close()
        assert loaded(adapters) == {"attention"}
    assert loaded(adapters) == {"attention"}


def test_an_adapter_whose_folder_is_gone_serves_no_new_requests(
    adapters: Adapters, root: Path
) -> None:
    adapters.acquire("attention").close()
    shutil.rmtree(root / "attention")
    with pytest.raises(NotFound):
        adapters.acquire("attention")
    assert "attention" in loaded(adapters)
    assert adapters.unload("attention") is True
    with pytest.raises(NotFound):
        adapters.unload("attention")
