"""Calldata for the Solidity verifiers that ezkl generates.

Source: `function verifyProof(bytes calldata proof, uint256[] calldata instances)` of ezkl's
generated verifier contracts, encoded by the Solidity ABI.
"""

from __future__ import annotations

from collections.abc import Sequence

from eth_abi.abi import encode

__all__ = ["encode_verify_calldata"]

#: The first four bytes of keccak256("verifyProof(bytes,uint256[])").
_SELECTOR = bytes.fromhex("1e8e1e13")
#: The order of BN254's scalar field: an instance is a canonical field element below it.
_FIELD_ORDER = 0x30644E72E131A029B85045B68181585D2833E84879B9709143E1F593F0000001


def encode_verify_calldata(proof: bytes, instances: Sequence[int]) -> bytes:
    """Return the calldata of `verifyProof(proof, instances)`.

    `instances` are the public values as field elements of BN254, 0 <= x < the field's order.
    Raises `ValueError` for one that is not canonical, which a verifier would refuse.
    """
    for position, instance in enumerate(instances):
        if not 0 <= instance < _FIELD_ORDER:
            raise ValueError(f"instance {position} is not a canonical field element of BN254")
    return _SELECTOR + encode(["bytes", "uint256[]"], [proof, list(instances)])
