"""Models that a test names, whose loads it counts and holds up."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ml.errors import ConfigurationError, InvalidInput
from ml.workflows.inference.base_classic_ml_inference_workflow import (
    BaseClassicMLInferenceWorkflow,
)
from ml.workflows.inference.models_inference_workflow import ModelsInferenceWorkflow

__all__ = ["SEVERAL", "Adds", "AddsBehindGate", "Proves", "Seen", "listed"]

SEVERAL = ModelsInferenceWorkflow


class Seen:
    """What the models of this process did; a test begins with `forget`."""

    loads: ClassVar[Counter[float]] = Counter()
    closed: ClassVar[list[float]] = []
    batches: ClassVar[list[int]] = []
    #: Those that have one here are held up in their load, or in a run, until it is set.
    loading: ClassVar[defaultdict[float, threading.Event]] = defaultdict(threading.Event)
    running: ClassVar[defaultdict[float, threading.Event]] = defaultdict(threading.Event)

    @classmethod
    def forget(cls) -> None:
        """Begin anew, and let go of all that is held up."""
        for event in [*cls.loading.values(), *cls.running.values()]:
            event.set()
        for seen in (cls.loads, cls.closed, cls.batches, cls.loading, cls.running):
            seen.clear()


class Adds(BaseClassicMLInferenceWorkflow):
    """Adds a number to what it is given."""

    def __init__(self, number: float, *, size: int = 1, needs: str | None = None) -> None:
        super().__init__()
        self.number, self.size, self.needs = number, size, needs

    def model_bytes(self) -> int:
        return self.size

    def do_setup(self) -> None:
        Seen.loads[self.number] += 1
        if self.number in Seen.loading:
            assert Seen.loading[self.number].wait(60)
        if self.needs is not None and not Path(self.needs).exists():
            raise ConfigurationError(f"{self.needs}: there is no such file")
        self.weight = np.array(self.number)

    def do_close(self) -> None:
        Seen.closed.append(self.number)
        del self.weight

    def do_run_batch(self, batch: list[Any]) -> list[Any]:
        if self.number in Seen.running:
            assert Seen.running[self.number].wait(60)
        Seen.batches.append(len(batch))
        return [array + self.weight for array in batch]

    def do_run_model(self, preprocessed_data: Any) -> Any:
        return self.do_run_batch([preprocessed_data])[0]


class AddsBehindGate(Adds):
    """Is loaded once there is a file; another one has the processes that began to."""

    def __init__(self, number: float, *, gate: str, begun: str) -> None:
        super().__init__(number)
        self.gate, self.begun = Path(gate), Path(begun)

    def do_setup(self) -> None:
        with self.begun.open("a") as file:
            file.write(f"{os.getpid()}\n")
        while not self.gate.exists():
            time.sleep(0.02)
        super().do_setup()


class Proves(Adds):
    """Proves its answers by repeating them."""

    def do_generate_proof(self, input_data: Any, output: Any) -> bytes:
        if self.preprocessed().ndim != 2:
            raise InvalidInput("values: expected rows")
        return str(output.array.tolist()).encode()


def listed(count: int, **arguments: Any) -> dict[str, Any]:
    """Return the arguments of so many models, "m1" that adds 1 and so on."""
    names = {f"m{number}": {"number": float(number)} for number in range(1, count + 1)}
    return {name: {**given, **arguments, "workflow_class": PATH} for name, given in names.items()}


PATH = f"{Adds.__module__}.{Adds.__qualname__}"
