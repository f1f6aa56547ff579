"""What a workflow's `do_generate_proof` returns, and the answers that hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ml.errors import InternalError
from ml.json_text import JsonObject

__all__ = ["PlainProof", "Proof", "as_proof"]


@runtime_checkable
class Proof(Protocol):
    """A proof of an output, in the form of each destination."""

    @property
    def calldata(self) -> bytes:
        """What a contract gets as `proof`."""

    def answer_with(self, answer: object) -> object:
        """Return what a web client gets: the off-chain answer with this proof in it."""


@dataclass(frozen=True, slots=True)
class PlainProof:
    """The bytes of a proof, about which nothing else is known."""

    calldata: bytes

    def answer_with(self, answer: object) -> JsonObject:
        """Return `output` and `proof`, the latter in hex that begins with 0x."""
        return {"output": answer, "proof": "0x" + self.calldata.hex()}


def as_proof(made: object) -> Proof:
    """Return what a hook made as a proof; it may be bytes. Raises `InternalError` for all else."""
    if isinstance(made, bytes | bytearray):
        return PlainProof(bytes(made))
    if isinstance(made, Proof):
        return made
    raise InternalError(f"do_generate_proof made {type(made).__name__}, neither bytes nor a Proof.")
