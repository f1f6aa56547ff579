"""Small workflows, each with one behaviour that a test looks at."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import structlog
from pydantic import BaseModel

from ml.caller import is_cancelled, takes_proof
from ml.errors import ConfigurationError, InvalidInput, NotReady, OutOfMemory, UnprocessableOutput
from ml.generation.language_model import LanguageModel
from ml.generation.request import Piece, Prompt
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow
from ml.workflows.inference.llm_inference_workflow import LLMInferenceWorkflow


class Echo(BaseInferenceWorkflow):
    """Answers with its input, whatever it is."""

    def do_run_model(self, data: Any) -> Any:
        return data


class Shout(BaseInferenceWorkflow):
    """Answers a text in upper case; takes keyword arguments that a test sets."""

    def __init__(self, *, ending: str = "", hub_token: str | None = None) -> None:
        super().__init__(ending=ending, hub_token=hub_token)
        self.ending = ending

    def do_run_model(self, text: str) -> str:
        return text.upper() + self.ending

    def supports_model(self, model_id: str) -> bool:
        return model_id == "shout"


class Point(BaseModel):
    x: float
    y: float


class Typed(BaseInferenceWorkflow):
    """Has an input model and answers with one; async all the way."""

    input_model = Point

    async def do_setup(self) -> None:
        pass

    async def do_run_model(self, point: Point) -> Point:
        return Point(x=point.y, y=point.x)


class WithCode(BaseInferenceWorkflow):
    """Answers with an object that has a `code`, which the node takes for an error."""

    def do_run_model(self, data: Any) -> Any:
        return {"code": 404, "values": np.array([1.0, float("nan")])}


class WrongJson(BaseInferenceWorkflow):
    """Answers with what JSON cannot hold."""

    def do_run_model(self, data: Any) -> Any:
        return object()


class Prover(BaseInferenceWorkflow):
    """Makes a proof from its input and output."""

    def do_run_model(self, text: str) -> str:
        return text.upper()

    def do_generate_proof(self, input_data: str, output: str) -> bytes:
        return f"{input_data}->{output}".encode()


class StreamingProver(Prover):
    """Streams, too."""

    def do_stream(self, text: str) -> Any:
        yield text.upper()


class CountingProver(BaseInferenceWorkflow):
    """Proves as it runs, where the caller takes a proof; counts its hooks' calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    async def do_preprocessing(self, text: str) -> str:
        self.calls.append("preprocessing")
        return text.strip()

    def do_run_model(self, text: str) -> str:
        self.calls.append("proving" if takes_proof() else "running")
        return text.upper()

    def do_generate_proof(self, input_data: str, output: str) -> bytes:
        self.calls.append("proof")
        return f"{self.preprocessed()}->{output}".encode()


class UnwritableProver(CountingProver):
    """Its output has no form."""

    def encode_offchain(self, output: str, input_data: str) -> Any:
        raise UnprocessableOutput("no form")

    def encode_onchain(self, output: str, input_data: str) -> bytes:
        raise UnprocessableOutput("no form")


class Pieces(BaseInferenceWorkflow):
    """Streams the pieces that a request lists; `{"fail": true}` raises, `{"wait": s}` sleeps."""

    closed: ClassVar[list[str]] = []

    def do_run_model(self, data: Any) -> Any:
        return "".join(piece for piece in data if isinstance(piece, str))

    def do_stream(self, data: Any) -> Any:
        try:
            for piece in data:
                match piece:
                    case {"fail": "input"}:
                        raise InvalidInput("data: not this one")
                    case {"fail": "exit"}:
                        sys.exit(2)
                    case {"fail": _}:
                        raise RuntimeError("the model broke at a secret place")
                    case {"bytes": text}:
                        yield bytes.fromhex(text)
                    case {"wait": seconds}:
                        _sleep_until_cancelled(seconds)
                    case _:
                        yield piece
        finally:
            self.closed.append("plain")


class AsyncPieces(BaseInferenceWorkflow):
    """Streams each character of a text."""

    async def do_run_model(self, text: str) -> str:
        return text

    async def do_stream(self, text: str) -> Any:
        for character in text:
            yield character


class Slow(BaseInferenceWorkflow):
    """Works for the seconds that a request asks for, and notices when nobody waits any more.

    The argument is a file to which a line is added for each run that started and for each that
    was cancelled, with the process that it ran in.
    """

    def __init__(self, journal: str = os.devnull) -> None:
        super().__init__(journal)
        self.journal = Path(journal)

    def do_run_model(self, seconds: float) -> dict[str, Any]:
        self._note("started")
        if _sleep_until_cancelled(seconds):
            self._note("cancelled")
        return {"pid": os.getpid()}

    def _note(self, event: str) -> None:
        with self.journal.open("a") as file:
            file.write(f"{event} {os.getpid()}\n")


class SlowAsync(BaseInferenceWorkflow):
    """Waits as long as a request asks for, on the event loop."""

    events: ClassVar[list[str]] = []

    async def do_run_model(self, seconds: float) -> str:
        self.events.append("started")
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.events.append("cancelled")
            raise
        return "done"


class Stubborn(BaseInferenceWorkflow):
    """A plain hook that cannot be stopped."""

    def do_run_model(self, seconds: float) -> str:
        time.sleep(seconds)
        return "done"


class Pid(BaseInferenceWorkflow):
    """Answers with the process that it runs in."""

    def do_run_model(self, data: Any) -> dict[str, int]:
        return {"pid": os.getpid()}


class Talkative(BaseInferenceWorkflow):
    """Logs from its plain hook."""

    def do_run_model(self, data: Any) -> Any:
        structlog.get_logger().info("from the hook")
        return data


class Failing(BaseInferenceWorkflow):
    """Fails on every request with an error that shall stay inside."""

    def do_run_model(self, data: Any) -> Any:
        match data:
            case "stop iteration":
                return next(iter(()))
            case "memory":
                raise MemoryError
            case "exit":
                sys.exit(2)
            case "timeout":
                raise TimeoutError("a time-out of the model's own")
            case "not ready":
                raise NotReady("The model is away.", retry_after_seconds=7)
            case _:
                raise RuntimeError("a secret place: 10.9.8.7")


class SlowSetup(BaseInferenceWorkflow):
    """Takes its time to load."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def do_setup(self) -> None:
        time.sleep(self.seconds)

    def do_run_model(self, data: Any) -> Any:
        return data


class FailingSetup(BaseInferenceWorkflow):
    """Cannot be loaded; the argument says in which way."""

    def __init__(self, way: str) -> None:
        super().__init__(way)
        self.way = way

    def do_setup(self) -> None:
        if self.way == "readable":
            raise ConfigurationError("there is no model file; set its path")
        if self.way == "exit":
            sys.exit(2)
        raise RuntimeError("a secret place: 10.9.8.7")

    def do_run_model(self, data: Any) -> Any:
        return data


class DiesAtSetup(BaseInferenceWorkflow):
    """Takes its process with it."""

    def do_setup(self) -> None:
        os._exit(7)

    def do_run_model(self, data: Any) -> Any:
        return data


class LeavesOrphans(BaseInferenceWorkflow):
    """Starts a process whose child outlives it, writes its id into a file and ends with code 2."""

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self.file = file

    def do_setup(self) -> None:
        orphan = "import os, pathlib, sys, time; time.sleep(0.5)\n"
        orphan += f"pathlib.Path({self.file!r}).write_text(str(os.getpid())); sys.exit(2)"
        parent = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]])"
        subprocess.run([sys.executable, "-c", parent, orphan], check=True)

    def do_run_model(self, data: Any) -> Any:
        return data


class Refusing(BaseInferenceWorkflow):
    """Its constructor refuses every value."""

    def __init__(self, size: int) -> None:
        raise ValueError(f"size {size} is out of range")

    def do_run_model(self, data: Any) -> Any:
        return data


class Batched(BaseInferenceWorkflow):
    """Doubles numbers in batches and remembers how large they were.

    A text fails alone, -1 is answered with an exception, -2 fails its whole batch, -3 loses
    items, -4 fails behind the batch, -5 asks the process to exit, and a number over 1000 holds
    its batch until `gate` is open.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.runs: list[list[int]] = []
        self.gate = threading.Event()
        self.entered = threading.Event()

    def do_preprocessing(self, data: Any) -> int:
        if not isinstance(data, int):
            raise InvalidInput("data: give a whole number")
        return data

    def do_run_model(self, number: int) -> int:
        raise AssertionError("the service has to run the batch hook")

    def do_run_batch(self, batch: list[int]) -> list[Any]:
        if self._is_held(batch):
            self.gate.wait(30)
        return self._outputs(batch)

    def _is_held(self, batch: list[int]) -> bool:
        self.sizes.append(len(batch))
        self.runs.append(list(batch))
        if max(batch) <= 1000:
            return False
        self.entered.set()
        return True

    def _outputs(self, batch: list[int]) -> list[Any]:
        if -5 in batch:
            sys.exit(2)
        if -2 in batch:
            raise RuntimeError("the batch broke")
        if -3 in batch:
            return [0]  # fewer than asked for
        return [InvalidInput("data: not -1") if number == -1 else number * 2 for number in batch]

    def do_postprocessing(self, data: int, output: int) -> int:
        if data == -4:
            raise StopIteration
        return output


class BatchedAsync(Batched):
    """The same with a hook on the event loop."""

    async def do_run_batch(self, batch: list[int]) -> list[Any]:
        held = self._is_held(batch)
        while held and not self.gate.is_set():  # noqa: ASYNC110 (a gate for both kinds of hook)
            await asyncio.sleep(0.002)
        return self._outputs(batch)


class Quick(Batched):
    """Batches whose items are alike, and which remembers the threads that ran them."""

    runs_alike = True

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[str] = []
        self.seconds = 0.0

    def input_size(self, preprocessed_data: int) -> int:
        return preprocessed_data

    def do_run_batch(self, batch: list[int]) -> list[Any]:
        self.threads.append(threading.current_thread().name)
        if self.seconds:
            time.sleep(self.seconds)
        return super().do_run_batch(batch)


def _sleep_until_cancelled(seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if is_cancelled():
            return True
        time.sleep(0.01)
    return False


class _BreaksOff(LanguageModel):
    async def generate(self, prompt: Prompt) -> AsyncGenerator[Piece, None]:
        number = 0
        async with contextlib.aclosing(super().generate(prompt)) as pieces:
            async for piece in pieces:
                yield piece
                number += 1
                if number == 3:
                    raise OutOfMemory


class BreaksOff(LLMInferenceWorkflow):
    """A language model that fails behind its third token."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.language_model = _BreaksOff(self.language_model.arguments)


class _StandsStill(LanguageModel):
    closed: ClassVar[list[str]] = []

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Piece, None]:
        number = 0
        try:
            async with contextlib.aclosing(super().generate(prompt)) as pieces:
                async for piece in pieces:
                    yield piece
                    number += 1
                    if number == 3:
                        await asyncio.sleep(60)
        finally:
            self.closed.append("closed")


class StandsStill(LLMInferenceWorkflow):
    """A language model that says no more behind its third token."""

    closed = _StandsStill.closed

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.language_model = _StandsStill(self.language_model.arguments)


class LoadsWithABar(Echo):
    def do_setup(self) -> None:
        from tqdm import tqdm

        for _ in tqdm(range(3)):
            pass
