"""Proofs of a model's answers, by a circuit that was made of the model.

A circuit computes with integers, so its output is never quite the model's. What is proved is the
circuit's: whoever gets an answer with its proof has to know how far they are apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ml.caller import is_cancelled, seconds_left
from ml.errors import ConfigurationError, InvalidInput, UnprocessableOutput
from ml.proving.answer import DTYPE_NAMES, answer_document
from ml.proving.artifact import Artifact
from ml.proving.circuit_input import MODEL_DTYPES
from ml.proving.line import Line
from ml.proving.manifest import Manifest
from ml.proving.prover import ProvedAnswer
from ml.proving.provers import start_provers

__all__ = ["ModelProof", "ModelProofs"]

Array = npt.NDArray[Any]

#: What tells another model from a coarse circuit where no tolerance does: this share of the
#: largest output, or so many steps of the circuit's numbers.
_FAR_OFF_SHARE, _FAR_OFF_STEPS = 0.1, 16


@dataclass(frozen=True, eq=False)
class ModelProof:
    """A proof of the circuit's answer, and its largest distance from the model's."""

    manifest: Manifest
    proved: ProvedAnswer
    largest_difference: float

    def document(self) -> dict[str, Any]:
        """Return the circuit's answer as the proof workflow has it, and the difference."""
        document = answer_document(self.manifest, self.proved)
        return {**document, "largest_difference": self.largest_difference}


class ModelProofs:
    """Proves the answers of one model.

    `seconds` bounds one proof, beside the request's own deadline; `memory_limit_bytes` the process
    that proves; `tolerance` how far the circuit's output may be from the model's, in its units.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seconds: float,
        memory_limit_bytes: int | None,
        tolerance: float | None,
    ) -> None:
        self.folder = folder
        self._seconds = seconds
        self._memory_limit_bytes = memory_limit_bytes
        self._tolerance = tolerance
        self._line = Line()

    def setup(self, answer_to: Callable[[str, Array], Sequence[Array]]) -> None:
        """Start the process, prove the artifact's own input, and compare with the model's answer.

        `answer_to` returns what the model answers to a tensor, of which it also gets the name of
        its dtype in requests: its tensors, in the order in which an export has them.

        Raises `ConfigurationError` for an artifact that cannot be used, or is of another model.
        """
        self._worker, [self._prover] = start_provers(
            [Artifact(self.folder)],
            seconds=self._seconds,
            memory_limit_bytes=self._memory_limit_bytes,
        )
        try:
            self._require_same_model(answer_to)
        except (InvalidInput, UnprocessableOutput) as error:
            self.close()
            raise ConfigurationError(f"{self._does_not_fit}: {error.description}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the process."""
        self._worker.close()

    def prove(self, dtype: str, tensor: Array, answer: Sequence[Array]) -> ModelProof:
        """Return a proof for an input of the model and what the model answered to it.

        `dtype` is the input's in requests. Raises `InvalidInput` for an input that the circuit
        does not take, `UnprocessableOutput` for an answer that is over the tolerance, and
        `DoesNotFit` for a proof that is expected to take too long.
        """
        manifest = self._prover.artifact.manifest
        due = DTYPE_NAMES[manifest.inputs[0].dtype]
        if dtype != due:
            raise InvalidInput(f"dtype: the circuit takes {due!r}; given {dtype!r}")
        with self._line.place(self._prover.expected_seconds, self._seconds_left()):
            if self._tolerance is not None:  # a refusal shall not cost a proof
                self._difference(self._run(tensor), answer)
            proved = self._prover.prove(
                [tensor], seconds=self._seconds_left(), is_cancelled=is_cancelled
            )
        return ModelProof(manifest, proved, self._difference(proved.outputs, answer))

    @property
    def _does_not_fit(self) -> str:
        return f"proof_artifact: {self._prover.artifact.manifest.id} does not fit this model"

    def _require_same_model(self, answer_to: Callable[[str, Array], Sequence[Array]]) -> None:
        name, own = _own_input(self._prover.artifact)
        answer = answer_to(name, own)
        difference = self._difference(self._run(own), answer)
        largest = max(float(np.abs(tensor).max(initial=0.0)) for tensor in answer)
        step = max(2.0**-record.scale for record in self._prover.artifact.manifest.outputs)
        allowed = max(_FAR_OFF_SHARE * largest, _FAR_OFF_STEPS * step)
        if self._tolerance is None and not difference <= allowed:
            raise ConfigurationError(
                f"{self._does_not_fit}: for the artifact's own input, the circuit's output "
                f"differs from the model's by {difference:.6g}, where the model's largest is "
                f"{largest:.6g}"
            )

    def _run(self, tensor: Array) -> tuple[Array, ...]:
        seconds = self._seconds_left()
        return self._prover.run([tensor], seconds=seconds, is_cancelled=is_cancelled)

    def _seconds_left(self) -> float:
        return min(self._seconds, seconds_left())

    def _difference(self, outputs: Sequence[Array], answer: Sequence[Array]) -> float:
        difference = _largest_difference(outputs, answer)
        if self._tolerance is not None and not difference <= self._tolerance:
            raise UnprocessableOutput(
                f"The circuit's output differs from the model's by {difference:.6g}, over the "
                f"proof_tolerance of {self._tolerance:g}: a proof would be of another answer."
            )
        return difference


def _own_input(artifact: Artifact) -> tuple[str, Array]:
    records = artifact.manifest.inputs
    if len(records) != 1:
        raise InvalidInput(f"the circuit takes {len(records)} tensors, the model one")
    dtype = records[0].dtype
    [column] = json.loads(artifact.self_test)["input_data"]
    values = np.array(column).astype(MODEL_DTYPES[dtype]).reshape(records[0].shape)
    return DTYPE_NAMES[dtype], values


def _largest_difference(outputs: Sequence[Array], tensors: Sequence[Array]) -> float:
    shapes = [list(output.shape) for output in outputs], [list(t.shape) for t in tensors]
    if shapes[0] != shapes[1]:
        raise UnprocessableOutput(
            f"The circuit answers shapes {_listed(shapes[0])}, the model {_listed(shapes[1])}."
        )
    return max(
        float(np.abs(output.astype(np.float64) - tensor).max(initial=0.0))
        for output, tensor in zip(outputs, tensors, strict=True)
    )


def _listed(shapes: Sequence[list[int]]) -> str:
    return " and ".join(map(str, shapes)) or "none"
