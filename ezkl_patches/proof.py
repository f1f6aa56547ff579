"""A proof as ezkl's `prove()` returns it or writes it to a file.

Sources: both outputs of ezkl 23.0.5. `instances` is one column of field elements, each 32 bytes in
little-endian hex; `proof` is 0x-hex in the returned form and a list of bytes in the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Self

from ezkl_patches.field import require_canonical

__all__ = ["Proof"]

_ELEMENT_BYTES = 32


@dataclass(frozen=True)
class Proof:
    """A proof and the public values that it speaks of.

    Attributes:
        proof: the bytes that a verifier contract takes.
        instances: field elements of BN254, 0 <= x < the field's order.

    Raises `ValueError` for an instance that is not canonical.
    """

    proof: bytes
    instances: tuple[int, ...]

    def __post_init__(self) -> None:
        require_canonical(self.instances)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Return the proof of a document in either of ezkl's forms.

        What the file says beside (`pretty_public_inputs`, `hex_proof`) is not read: ezkl's
        `verify` does not check it. Raises `ValueError` that names what is wrong.
        """
        for name in ("proof", "instances"):
            if name not in document:
                raise ValueError(f"{name}: missing")
        columns = document["instances"]
        if not isinstance(columns, list) or len(columns) > 1:
            raise ValueError("instances: expected a list with one list of field elements")
        elements = columns[0] if columns else []
        if not isinstance(elements, list):
            raise ValueError("instances: expected a list with one list of field elements")
        instances = tuple(_element(text, position) for position, text in enumerate(elements))
        return cls(_proof_bytes(document["proof"]), instances)

    @classmethod
    def read(cls, path: str | PathLike[str]) -> Self:
        """Return the proof of a file. Raises `ValueError` for one that holds none, `OSError`."""
        document = json.loads(Path(path).read_bytes())
        if not isinstance(document, dict):
            raise ValueError("expected a JSON object with 'proof' and 'instances'")
        return cls.from_dict(document)

    def to_dict(self) -> dict[str, Any]:
        """Return what ezkl's `verify` reads once it is a JSON file."""
        elements = [value.to_bytes(_ELEMENT_BYTES, "little").hex() for value in self.instances]
        return {"proof": list(self.proof), "instances": [elements]}


def _element(text: Any, position: int) -> int:
    data = _from_hex(text)
    if data is None or len(data) != _ELEMENT_BYTES:
        raise ValueError(f"instance {position}: expected {_ELEMENT_BYTES} bytes of hex, without 0x")
    return int.from_bytes(data, "little")


def _proof_bytes(proof: Any) -> bytes:
    if isinstance(proof, list):
        if all(type(byte) is int and 0 <= byte <= 0xFF for byte in proof):
            return bytes(proof)
    elif (data := _from_hex(proof, prefix="0x")) is not None:
        return data
    raise ValueError("proof: expected 0x-hex or a list of bytes")


def _from_hex(text: Any, prefix: str = "") -> bytes | None:
    if not isinstance(text, str) or not text.startswith(prefix) or not text.isascii():
        return None
    digits = text[len(prefix) :]
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        return None
    return data if 2 * len(data) == len(digits) else None  # fromhex skips spaces
