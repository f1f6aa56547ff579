"""The key artifact of a circuit (vka), which the reusable Solidity verifier is told.

Source: the file that `create_evm_vka` of ezkl 23.0.5 writes: the number of words as a little-endian
uint64, then the words of 32 bytes, used as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from eth_abi.abi import encode

__all__ = ["encode_register_vka_calldata", "load_vka", "parse_vka"]

_COUNT_BYTES = 8
_WORD_BYTES = 32
#: The first four bytes of keccak256("registerVka(bytes32[])").
_SELECTOR = bytes.fromhex("dc8b4094")


def load_vka(path: str | PathLike[str]) -> list[bytes]:
    """Return the words of a file. Raises `ValueError` for one of another form, `OSError`."""
    return parse_vka(Path(path).read_bytes())


def parse_vka(data: bytes) -> list[bytes]:
    """Return the words of a file's bytes. Raises `ValueError` for any other length."""
    count = int.from_bytes(data[:_COUNT_BYTES], "little")
    if len(data) < _COUNT_BYTES or len(data) != _COUNT_BYTES + count * _WORD_BYTES:
        raise ValueError("no key artifact: its length is not what its count of words says")
    return [data[i : i + _WORD_BYTES] for i in range(_COUNT_BYTES, len(data), _WORD_BYTES)]


def encode_register_vka_calldata(vka: Sequence[bytes]) -> bytes:
    """Return the calldata of `registerVka(vka)`: the verifier refuses artifacts it does not know.

    Raises `ValueError` for a word that does not have 32 bytes.
    """
    if any(len(word) != _WORD_BYTES for word in vka):
        raise ValueError("vka: each word has 32 bytes")
    return _SELECTOR + encode(["bytes32[]"], [list(vka)])
