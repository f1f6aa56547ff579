"""From what ezkl raises, and writes beside it, to failures that a caller can read.

Source: the behaviour of ezkl 23.0.5. Its errors are RuntimeErrors told apart by their text, and
pyo3's PanicException, which is no `Exception` and cannot be pickled.
"""

from __future__ import annotations

from ml.errors import ConfigurationError, InternalError, OutOfMemory, ServiceError
from ml.proving.failures import ArtifactFault, OutOfCircuitRange, ProofRefused, ProvingPanic

__all__ = ["explain", "is_out_of_memory"]

#: What it says where numbers do not fit the circuit's range checks.
_RANGE_SIGNS = ("General synthesis error", "SigBitTruncationError", "Failed to quantize")
#: What it says where not a proof is at fault, but a file of ours.
_FILE_SIGNS = ("[srs]", "[io]", "failed to load vk", "failed to load settings", "No such file")
#: What Rust writes before it aborts because memory was refused.
_MEMORY_SIGN = "memory allocation of"
_DETAIL_CHARACTERS = 500


def explain(error: BaseException, stage: str, output: str) -> tuple[Exception, str]:
    """Return the failure for what was raised in a stage, and a detail for the log, "" for none.

    `output` is what ezkl wrote meanwhile; it may hold a caller's numbers and is never repeated.
    """
    if isinstance(error, ServiceError | ConfigurationError):
        return error, ""
    detail = f"{stage}: {type(error).__name__}: {error}"[:_DETAIL_CHARACTERS]
    if isinstance(error, MemoryError) or is_out_of_memory(output):
        return OutOfMemory("The proof needs more memory than the proving process may take."), detail
    if isinstance(error, ModuleNotFoundError) and error.name in ("ezkl", "onnx"):
        return ConfigurationError(f"install the extra 'ezkl', which brings {error.name}"), ""
    if isinstance(error, OSError) and error.strerror:  # ours: ezkl's have no number
        return InternalError(f"The proving process cannot use its files: {error.strerror}."), detail
    text = str(error)
    if stage == "witness" and any(sign in text for sign in _RANGE_SIGNS):
        return OutOfCircuitRange(), ""
    if type(error).__name__ == "PanicException":
        return ProvingPanic(), detail
    if stage == "check" and not any(sign in text for sign in _FILE_SIGNS):
        return ProofRefused(), ""
    if stage in _FAULTS:
        return ArtifactFault(_FAULTS[stage]), detail
    return InternalError(), detail


_FAULTS = {
    "witness": "The circuit cannot be run: its compiled model and this input do not fit.",
    "prove": "No proof can be made: the proving key, the SRS and the circuit do not fit.",
    "verify": "The fresh proof does not hold: the keys and the SRS are not of one setup.",
    "check": "The proof cannot be checked: the verifying key, settings or SRS cannot be read.",
}


def is_out_of_memory(output: str) -> bool:
    """Return whether what the process wrote says that it was refused memory."""
    return _MEMORY_SIGN in output
