"""Runs circuits, proves their answers and checks proofs, with an artifact and a worker."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy.typing as npt

from ezkl_patches import Proof, PublicValues, encode_verify_calldata
from ml.errors import ConfigurationError, ServiceError
from ml.proving import tasks
from ml.proving.artifact import Artifact, require_ezkl
from ml.proving.circuit_input import input_document, output_tensors
from ml.proving.failures import ArtifactFault, ProofRefused
from ml.proving.worker import Progress, Worker, never, unreported

__all__ = ["ProvedAnswer", "Prover"]

Array = npt.NDArray[Any]

#: A proof may take this much longer than the measured one: it was alone on its machine.
_SAFETY_FACTOR = 1.5


@dataclass(frozen=True)
class ProvedAnswer:
    """An answer with its proof, which was verified.

    Attributes:
        outputs: the circuit's, one array for each tensor, in the model's dtypes.
        public_values: what the proof says of inputs and outputs.
        seconds: of the stages witness, prove, verify.
    """

    outputs: tuple[Array, ...]
    proof: Proof
    public_values: PublicValues
    seconds: dict[str, float]

    @property
    def calldata(self) -> bytes:
        """What the artifact's verifier contract is called with."""
        return encode_verify_calldata(self.proof.proof, self.proof.instances)


class Prover:
    """Works with one artifact, in a worker that other provers may share.

    Every method that takes `seconds` raises `DeadlineExceeded` when they are over; see
    `Worker.run` for `progress` and `is_cancelled`, and for what a process that dies leads to. All
    raise `ArtifactFault` when a file of the artifact was altered.
    """

    def __init__(self, artifact: Artifact, worker: Worker) -> None:
        self.artifact = artifact
        self._worker = worker
        self._measured_seconds = artifact.manifest.proof_seconds

    @property
    def expected_seconds(self) -> float:
        """How long a proof is expected to take: half as much again as the measured one.

        That is the one of `require_usable`, and before it the one of the build.
        """
        return self._measured_seconds * _SAFETY_FACTOR

    def require_usable(
        self, *, memory_limit_bytes: int | None = None, seconds: float, proves: bool = True
    ) -> None:
        """Prove the artifact's own input; raises `ConfigurationError` if that cannot be done.

        It is refused at once where a proof took more memory than the worker may have. Without
        `proves`, the circuit is only run.
        """
        require_ezkl()
        manifest = self.artifact.manifest
        if memory_limit_bytes is not None and manifest.memory_bytes > memory_limit_bytes:
            raise ConfigurationError(
                f"{manifest.id}: a proof takes {manifest.memory_bytes} bytes of memory, over the "
                f"limit of {memory_limit_bytes}"
            )
        try:
            if proves:
                done = self.prove_document(self.artifact.self_test, seconds=seconds)
                self._measured_seconds = sum(done.seconds.values())
            else:
                self._run(self.artifact.self_test, seconds=seconds)
        except ServiceError as error:
            raise ConfigurationError(f"{manifest.id}: {error.description}") from error

    def run(
        self,
        tensors: Sequence[Array],
        *,
        seconds: float = math.inf,
        is_cancelled: Callable[[], bool] = never,
    ) -> tuple[Array, ...]:
        """Return the circuit's outputs, without a proof.

        Raises `InvalidInput` for what the circuit does not take: see `input_document`.
        """
        document = input_document(self.artifact.manifest, tensors)
        return self._run(document, seconds=seconds, is_cancelled=is_cancelled)

    def prove(
        self,
        tensors: Sequence[Array],
        *,
        seconds: float = math.inf,
        progress: Progress = unreported,
        is_cancelled: Callable[[], bool] = never,
    ) -> ProvedAnswer:
        """Return the circuit's outputs and a proof of them; raises as `run` does."""
        document = input_document(self.artifact.manifest, tensors)
        return self.prove_document(
            document, seconds=seconds, progress=progress, is_cancelled=is_cancelled
        )

    def prove_document(
        self,
        document: str,
        *,
        seconds: float = math.inf,
        progress: Progress = unreported,
        is_cancelled: Callable[[], bool] = never,
    ) -> ProvedAnswer:
        """Return what `prove` does, for an input as `input_document` has it."""
        self.artifact.require_unchanged()
        done = self._worker.run(
            partial(tasks.prove, self.artifact.files, document),
            seconds=seconds,
            progress=progress,
            is_cancelled=is_cancelled,
        )
        proof = Proof.from_dict(done.proof)
        if len(proof.instances) != self.artifact.layout.total:
            raise ArtifactFault("The proof's public values are not laid out as the settings say.")
        return ProvedAnswer(
            outputs=tuple(output_tensors(self.artifact.manifest, done.outputs)),
            proof=proof,
            public_values=self.artifact.layout.decode(proof.instances),
            seconds=done.seconds,
        )

    def verify(
        self,
        proof: Proof,
        *,
        seconds: float = math.inf,
        is_cancelled: Callable[[], bool] = never,
    ) -> PublicValues:
        """Return what a proof says. Raises `ProofRefused` for one that does not hold."""
        manifest = self.artifact.manifest
        # ezkl takes a proof with bytes appended; the contract does not.
        if len(proof.proof) != manifest.proof_bytes:
            raise ProofRefused(
                f"The proof has {len(proof.proof)} bytes; those of {manifest.id} have "
                f"{manifest.proof_bytes}."
            )
        try:
            values = self.artifact.layout.decode(proof.instances)
        except ValueError as error:
            raise ProofRefused(f"The proof does not hold: {error}.") from None
        self.artifact.require_unchanged()
        task = partial(tasks.check, self.artifact.files, proof.to_dict())
        self._worker.run(task, seconds=seconds, is_cancelled=is_cancelled)
        return values

    def _run(
        self, document: str, *, seconds: float, is_cancelled: Callable[[], bool] = never
    ) -> tuple[Array, ...]:
        self.artifact.require_unchanged()
        task = partial(tasks.run_circuit, self.artifact.files, document)
        elements = self._worker.run(task, seconds=seconds, is_cancelled=is_cancelled)
        return tuple(output_tensors(self.artifact.manifest, elements))
