"""What can go wrong while a proof is made or checked, beside the failures of every request.

    ServiceError
    ├── InvalidInput
    │   └── OutOfCircuitRange       400  out_of_circuit_range
    ├── UnprocessableInput
    │   └── ProofRefused            422  proof_refused
    └── InternalError
        ├── ArtifactFault           500  artifact_fault
        ├── ProvingPanic            500  proving_panic
        └── ProvingProcessDied      500  proving_process_died

`reason` is the word at the right, for programs and logs. A proof over its deadline raises
`DeadlineExceeded`, one over its memory `OutOfMemory`.
"""

from __future__ import annotations

from typing import ClassVar

from ml.errors import InternalError, InvalidInput, UnprocessableInput

__all__ = [
    "ArtifactFault",
    "OutOfCircuitRange",
    "ProofRefused",
    "ProvingPanic",
    "ProvingProcessDied",
]


class OutOfCircuitRange(InvalidInput):
    """A number, or one that the model computes from it, is too large for the circuit."""

    reason: ClassVar[str] = "out_of_circuit_range"
    default_description = "The input leads to numbers that are too large for the circuit."


class ProofRefused(UnprocessableInput):
    """A proof does not hold: it was altered, or made with other artifacts."""

    reason: ClassVar[str] = "proof_refused"
    default_description = "The proof does not hold for these public values and this artifact."


class ArtifactFault(InternalError):
    """The files on this machine cannot yield valid proofs; the description names what is wrong."""

    reason: ClassVar[str] = "artifact_fault"
    default_description = "The proving artifact is damaged."


class ProvingPanic(InternalError):
    """ezkl met something that it was not written for."""

    reason: ClassVar[str] = "proving_panic"
    default_description = "ezkl panicked on this request; the log has the details."


class ProvingProcessDied(InternalError):
    """The process that proves ended in mid-request, by a signal or an abort of ezkl."""

    reason: ClassVar[str] = "proving_process_died"
    default_description = "The proving process died; the next request starts a new one."
