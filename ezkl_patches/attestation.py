"""Data attestation: a contract compares a proof's instances with data on the chain, then verifies.

`DataAttestor.sol` beside this file is such a contract; `ezkl_patches.solidity` compiles it. ezkl
generated its own up to 22.0.1, with the same entry,
`verifyWithDataAttestation(address verifier, bytes encoded)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eth_abi.abi import encode

__all__ = [
    "DATA_ATTESTOR_SOURCE",
    "DataSource",
    "encode_attestor_arguments",
    "encode_data_attestation_calldata",
]

#: The Solidity source of the contract; compile it with the optimizer.
DATA_ATTESTOR_SOURCE = Path(__file__).with_name("DataAttestor.sol")

#: The first four bytes of keccak256("verifyWithDataAttestation(address,bytes)").
_SELECTOR = bytes.fromhex("4c7985d0")


@dataclass(frozen=True)
class DataSource:
    """A call that yields values on the chain: fixed-point integers with so many decimals.

    Attributes:
        contract: the 0x-hex address that is called.
        calldata: what it is called with; it returns `count` int256 in a row, or an `int256[]`.
        decimals: a value v means v / 10**decimals; at most 36.
        scale: of the circuit's tensor, at most 64: see `InstanceLayout`.
    """

    contract: str
    calldata: bytes
    decimals: int
    scale: int
    count: int = 1


def encode_attestor_arguments(
    verifier: str,
    sources: Sequence[DataSource],
    *,
    instance_offset: int = 0,
    tolerance_quanta: int = 0,
) -> bytes:
    """Return the constructor's arguments of `DataAttestor`, to follow its bytecode.

    The values of the sources, in their order, are compared with the instances from
    `instance_offset` on; `InstanceLayout` knows the offsets of inputs and outputs. Leave
    `tolerance_quanta` (of 2**-scale) at 0 for float64 models; float32 rounds values of ±100 by up
    to 1 quantum at scale 13, and larger ones by more.
    """
    rows = [(s.contract, s.calldata, s.decimals, s.scale, s.count) for s in sources]
    types = ["address", "(address,bytes,uint8,uint8,uint16)[]", "uint256", "uint256"]
    return encode(types, [verifier, rows, instance_offset, tolerance_quanta])


def encode_data_attestation_calldata(verifier: str, verify_calldata: bytes) -> bytes:
    """Return the calldata of `verifyWithDataAttestation(verifier, verify_calldata)`.

    `verifier` is the 0x-hex address of the verifier that the attestor knows, `verify_calldata`
    what `encode_verify_calldata` returned.
    """
    return _SELECTOR + encode(["address", "bytes"], [verifier, verify_calldata])
