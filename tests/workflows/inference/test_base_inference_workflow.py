"""The order, the threads and the cancellation of a workflow's hooks."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import BaseModel

from ml.caller import is_cancelled
from ml.errors import InternalError, InvalidInput, NotReady
from ml.infernet.text import decode_text, encode_text
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow
from ml.workflows.inference.proof import PlainProof


class Shout(BaseInferenceWorkflow):
    """The smallest workflow."""

    def do_run_model(self, preprocessed_data: Any) -> Any:
        return preprocessed_data.upper()


class Recorder(BaseInferenceWorkflow):
    """Notes the thread of each hook; each hook adds its letter."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: dict[str, int] = {}

    def note(self, hook: str) -> None:
        self.threads[hook] = threading.get_ident()

    def do_setup(self) -> None:
        self.note("setup")

    def do_preprocessing(self, input_data: Any) -> Any:
        self.note("preprocessing")
        return input_data + "p"

    def do_run_model(self, preprocessed_data: Any) -> Any:
        self.note("model")
        return preprocessed_data + "m"

    def do_postprocessing(self, input_data: Any, output_data: Any) -> Any:
        self.note("postprocessing")
        return f"{input_data}:{output_data}o"

    def do_close(self) -> None:
        self.note("close")


class AsyncModel(Recorder):
    """The model's hook is async, the others are plain."""

    async def do_run_model(self, preprocessed_data: Any) -> Any:
        self.note("model")
        await asyncio.sleep(0)
        return preprocessed_data + "m"


class AsyncAll(Recorder):
    """Every hook is async."""

    async def do_setup(self) -> None:
        self.note("setup")

    async def do_preprocessing(self, input_data: Any) -> Any:
        self.note("preprocessing")
        return input_data + "p"

    async def do_run_model(self, preprocessed_data: Any) -> Any:
        self.note("model")
        return preprocessed_data + "m"

    async def do_postprocessing(self, input_data: Any, output_data: Any) -> Any:
        self.note("postprocessing")
        return f"{input_data}:{output_data}o"

    async def do_close(self) -> None:
        self.note("close")


async def ready(workflow: Any) -> Any:
    await workflow.setup()
    return workflow


async def until(condition: Callable[[], Any], seconds: float = 5) -> None:
    """Wait until something is so, because another thread makes it so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.005)


# --- hooks ------------------------------------------------------------------------------------


async def test_a_workflow_may_define_the_model_alone() -> None:
    assert await (await ready(Shout())).inference("hello") == "HELLO"


@pytest.mark.parametrize("kind", [Recorder, AsyncModel, AsyncAll])
async def test_hooks_run_in_order_whether_plain_or_async(kind: type[Recorder]) -> None:
    workflow = await ready(kind())
    assert await workflow.inference("i") == "i:ipmo"


async def test_plain_hooks_never_run_on_the_event_loops_thread() -> None:
    workflow = await ready(Recorder())
    await workflow.inference("i")
    await workflow.close()
    assert len(workflow.threads) == 5
    assert threading.get_ident() not in workflow.threads.values()


async def test_the_plain_hooks_of_a_request_share_one_hop_to_a_thread() -> None:
    workflow = await ready(Recorder())
    await workflow.inference("i")
    hops = {workflow.threads[hook] for hook in ("preprocessing", "model", "postprocessing")}
    assert len(hops) == 1


async def test_async_hooks_run_on_the_event_loop_and_the_plain_ones_beside_them_do_not() -> None:
    workflow = await ready(AsyncModel())
    await workflow.inference("i")
    here = threading.get_ident()
    assert [hook for hook, thread in workflow.threads.items() if thread == here] == ["model"]


async def test_the_plain_hooks_before_and_behind_an_async_one_share_a_hop_each() -> None:
    class Counting(ThreadPoolExecutor):
        hops = 0

        def submit(self, *args: Any, **kwargs: Any) -> Any:
            self.hops += 1
            return super().submit(*args, **kwargs)

    workflow = await ready(AsyncModel())
    with Counting() as executor:
        workflow.use(executor=executor)
        await workflow.inference("i")
        assert executor.hops == 2


@pytest.mark.parametrize("is_small", [True, False])
async def test_quick_plain_hooks_of_a_small_input_take_no_thread(is_small: bool) -> None:
    class Quick(AsyncModel):
        has_quick_hooks = True

    workflow = await ready(Quick())
    output = await workflow.run(lambda: "i", lambda _, output: output, is_small=is_small)
    hooks = [workflow.threads[hook] for hook in ("preprocessing", "postprocessing")]
    assert output == "i:ipmo"
    assert (hooks == [threading.get_ident()] * 2) is is_small


async def test_a_slow_plain_hook_does_not_block_the_event_loop() -> None:
    release = threading.Event()

    class Slow(BaseInferenceWorkflow):
        def do_run_model(self, preprocessed_data: Any) -> Any:
            return release.wait(5)

    workflow = await ready(Slow())
    running = asyncio.create_task(workflow.inference(None))
    await asyncio.sleep(0.01)  # would never return if the hook had the loop
    release.set()
    assert await running is True


async def test_arguments_are_kept() -> None:
    workflow = Shout(1, 2, name="x")
    assert workflow.args == [1, 2]
    assert workflow.kwargs == {"name": "x"}


async def test_a_failing_hook_raises_what_it_raised() -> None:
    class Failing(BaseInferenceWorkflow):
        def do_run_model(self, preprocessed_data: Any) -> Any:
            raise InvalidInput("field: wrong")

    with pytest.raises(InvalidInput, match="field: wrong"):
        await (await ready(Failing())).inference(None)


# --- setup ------------------------------------------------------------------------------------


async def test_nothing_is_answered_before_setup() -> None:
    with pytest.raises(NotReady):
        await Shout().inference("hello")
    with pytest.raises(NotReady):
        await anext(Shout().stream("hello"))
    with pytest.raises(NotReady):
        await Shout().run_with_proof(lambda: "hello", lambda *ran: ran)


async def test_is_setup_is_true_only_once_setup_succeeded_and_it_can_be_tried_again() -> None:
    class Late(Shout):
        fails = True
        seen: bool | None = None

        def do_setup(self) -> None:
            self.seen = self.is_setup
            if self.fails:
                raise OSError("no model")

    workflow = Late()
    with pytest.raises(OSError, match="no model"):
        await workflow.setup()
    assert not workflow.is_setup
    workflow.fails = False
    await workflow.setup()
    assert workflow.is_setup
    assert workflow.seen is False


async def test_setup_runs_once_and_again_after_close() -> None:
    class Counting(Shout):
        setups = 0
        closes = 0

        def do_setup(self) -> None:
            self.setups += 1

        async def do_close(self) -> None:
            self.closes += 1

    workflow = Counting()
    await workflow.close()
    assert workflow.closes == 0
    await workflow.setup()
    await workflow.setup()
    await workflow.close()
    assert not workflow.is_setup
    await workflow.setup()
    assert (workflow.setups, workflow.closes) == (2, 1)


@pytest.mark.parametrize("kind", [Recorder, AsyncModel, AsyncAll])
def test_a_script_may_use_an_event_loop_for_each_call(kind: type[Recorder]) -> None:
    workflow = kind()
    asyncio.run(workflow.setup())
    assert asyncio.run(workflow.inference("a")) == "a:apmo"
    assert asyncio.run(workflow.inference("b")) == "b:bpmo"
    asyncio.run(workflow.close())


# --- forms ------------------------------------------------------------------------------------


async def test_decoding_and_encoding_run_off_the_event_loop_with_the_plain_hooks() -> None:
    workflow = await ready(Recorder())
    threads = []

    def decode() -> str:
        threads.append(threading.get_ident())
        return "i"

    def encode(input_data: Any, output: Any) -> tuple[Any, Any]:
        threads.append(threading.get_ident())
        return input_data, output

    assert await workflow.run(decode, encode) == ("i", "i:ipmo")
    assert threads == [workflow.threads["model"]] * 2


async def test_an_input_model_is_checked_and_its_faults_are_named_under_data() -> None:
    class Question(BaseModel):
        text: str

    class Asked(Shout):
        input_model = Question

    assert Asked().decode_offchain({"text": "hi", "more": 1}) == Question(text="hi")
    with pytest.raises(InvalidInput, match=r"^data\.text: Field required$"):
        Asked().decode_offchain({})


def test_text_is_the_onchain_form_of_a_workflow_that_says_nothing_else() -> None:
    workflow = Shout()
    assert workflow.decode_onchain(encode_text("hello")) == "hello"
    assert workflow.decode_onchain(b"") == ""
    assert decode_text(workflow.encode_onchain("HELLO", "hello")) == "HELLO"
    assert decode_text(workflow.encode_onchain({"a": [1]}, "hello")) == '{"a":[1]}'
    assert workflow.encode_onchain(b"\x01", "hello") == b"\x01"


def test_what_a_workflow_can_do_is_told_by_the_hooks_it_defines() -> None:
    class Able(Shout):
        def do_run_batch(self, batch: list[Any]) -> list[Any]:
            return batch

        def do_generate_proof(self, input_data: Any, output: Any) -> bytes:
            return b"proof"

    assert (Shout().can_batch, Shout().can_prove) == (False, False)
    assert (Able().can_batch, Able().can_prove) == (True, True)
    assert not Shout().supports_model("any/model")


async def test_a_proof_is_made_of_the_input_and_the_output() -> None:
    class Proving(Shout):
        def do_preprocessing(self, input_data: Any) -> Any:
            return input_data.strip()

        def do_generate_proof(self, input_data: Any, output: Any) -> bytes:
            return f"{input_data}>{self.preprocessed()}>{output}".encode()

    workflow = await ready(Proving())
    (input_data, output), proof = await workflow.run_with_proof(lambda: " a", lambda *ran: ran)
    assert proof is not None
    assert (input_data, output, proof.calldata) == (" a", "A", b" a>a>A")
    assert proof.answer_with("A") == {"output": "A", "proof": "0x" + b" a>a>A".hex()}


@pytest.mark.parametrize("made", [b"\x01", bytearray(b"\x01"), PlainProof(b"\x01")])
async def test_a_proof_is_bytes_or_an_object_also_of_an_async_hook(made: Any) -> None:
    class Proving(Shout):
        async def do_generate_proof(self, input_data: Any, output: Any) -> Any:
            return made

    _, proof = await (await ready(Proving())).run_with_proof(lambda: "a", lambda *ran: ran)
    assert proof == PlainProof(b"\x01")


@pytest.mark.parametrize("made", [None, "0x01", {"proof": b"\x01"}])
async def test_what_is_no_proof_is_told_to_the_workflows_author(made: Any) -> None:
    class Proving(Shout):
        def do_generate_proof(self, input_data: Any, output: Any) -> Any:
            return made

    workflow = await ready(Proving())
    with pytest.raises(InternalError, match="neither bytes nor a Proof"):
        await workflow.run_with_proof(lambda: "a", lambda *ran: ran)


# --- cancellation -----------------------------------------------------------------------------


class Patient(BaseInferenceWorkflow):
    """Works until it is told that nobody waits any more."""

    def __init__(self) -> None:
        super().__init__()
        self.started = threading.Event()
        self.saw_cancellation = threading.Event()

    def work(self) -> None:
        self.started.set()
        for _ in range(1000):
            if is_cancelled():
                self.saw_cancellation.set()
                return
            time.sleep(0.005)

    def do_run_model(self, preprocessed_data: Any) -> Any:
        self.work()


class PatientWithAsyncHook(Patient):
    async def do_postprocessing(self, input_data: Any, output_data: Any) -> Any:
        return output_data


@pytest.mark.parametrize("kind", [Patient, PatientWithAsyncHook])
async def test_a_plain_hook_learns_that_its_caller_went_away(kind: type[Patient]) -> None:
    workflow = await ready(kind())
    waiting = asyncio.create_task(workflow.inference(None))
    await until(workflow.started.is_set)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(workflow.saw_cancellation.is_set)


async def test_a_plain_hook_learns_that_its_deadline_passed() -> None:
    workflow = await ready(Patient())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await workflow.inference(None)
    await until(workflow.saw_cancellation.is_set)


async def test_the_cancellation_of_one_request_is_not_seen_by_another() -> None:
    class Asking(BaseInferenceWorkflow):
        def do_run_model(self, preprocessed_data: Any) -> Any:
            return is_cancelled()

    patient = await ready(Patient())
    waiting = asyncio.create_task(patient.inference(None))
    await until(patient.started.is_set)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    assert await (await ready(Asking())).inference(None) is False


def test_outside_a_request_nothing_is_cancelled() -> None:
    assert not is_cancelled()


# --- streams ----------------------------------------------------------------------------------


class PlainStream(Shout):
    """Streams letter by letter from a plain generator, which notes its threads and its end."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = threading.Event()
        self.threads: set[int] = set()
        self.yielded = 0

    def do_preprocessing(self, input_data: Any) -> Any:
        return input_data.upper()

    def do_stream(self, preprocessed_data: Any) -> Iterator[str]:
        try:
            for letter in preprocessed_data:
                self.threads.add(threading.get_ident())
                self.yielded += 1
                yield letter
        finally:
            self.closed.set()


class AsyncStream(Shout):
    """Streams letter by letter from an async generator."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = threading.Event()

    async def do_stream(self, preprocessed_data: Any) -> AsyncIterator[str]:
        try:
            for letter in preprocessed_data.upper():
                await asyncio.sleep(0)
                yield letter
        finally:
            self.closed.set()


async def pieces_of(workflow: BaseInferenceWorkflow, input_data: Any) -> list[str]:
    return [piece async for piece in workflow.stream(input_data)]


@pytest.mark.parametrize("kind", [PlainStream, AsyncStream])
async def test_a_stream_passes_the_pieces_of_a_generator_on(
    kind: type[PlainStream] | type[AsyncStream],
) -> None:
    workflow = await ready(kind())
    assert await pieces_of(workflow, "abc") == ["A", "B", "C"]
    assert workflow.closed.is_set()


async def test_a_plain_generator_never_runs_on_the_event_loops_thread() -> None:
    workflow = await ready(PlainStream())
    await pieces_of(workflow, "abc")
    assert threading.get_ident() not in workflow.threads


async def test_a_plain_iterator_that_is_no_generator_is_streamed_too() -> None:
    class Listed(Shout):
        def do_stream(self, preprocessed_data: Any) -> list[str]:
            return ["a", "b"]

    assert await pieces_of(await ready(Listed()), "") == ["a", "b"]


async def test_without_a_stream_hook_the_whole_output_is_one_piece() -> None:
    assert await pieces_of(await ready(Shout()), "abc") == ["ABC"]
    assert await pieces_of(await ready(Structured()), "abc") == ['{"text":"abc"}']


class Structured(BaseInferenceWorkflow):
    def do_run_model(self, preprocessed_data: Any) -> Any:
        return {"text": preprocessed_data}


@pytest.mark.parametrize("kind", [PlainStream, AsyncStream])
async def test_a_generator_is_closed_when_its_consumer_leaves(
    kind: type[PlainStream] | type[AsyncStream],
) -> None:
    workflow = await ready(kind())
    async with contextlib.aclosing(workflow.stream("abc")) as pieces:
        assert await anext(pieces) == "A"
    await until(workflow.closed.is_set)
    if isinstance(workflow, PlainStream):
        assert workflow.yielded == 1


async def test_a_generator_that_is_at_work_is_told_when_its_consumer_leaves() -> None:
    class Working(Patient):
        closed = threading.Event()

        def do_stream(self, preprocessed_data: Any) -> Iterator[str]:
            try:
                yield "first"
                self.work()
                yield "second"
            finally:
                self.closed.set()

    workflow = await ready(Working())
    waiting = asyncio.create_task(pieces_of(workflow, None))
    await until(workflow.started.is_set)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(workflow.saw_cancellation.is_set)
    await until(workflow.closed.is_set)


async def test_a_failure_within_a_stream_reaches_its_consumer() -> None:
    class Failing(Shout):
        def do_stream(self, preprocessed_data: Any) -> Iterator[str]:
            yield "first"
            raise InvalidInput("no more")

    pieces = (await ready(Failing())).stream("")
    assert await anext(pieces) == "first"
    with pytest.raises(InvalidInput, match="no more"):
        await anext(pieces)
