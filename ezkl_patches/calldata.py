"""Calldata for the Solidity verifiers that ezkl generates.

Sources, encoded by the Solidity ABI:

- `function verifyProof(bytes calldata proof, uint256[] calldata instances)` of the verifier that is
  made for one circuit;
- `function verifyProof(bytes calldata proof, uint256[] calldata instances, bytes32[] memory vka)`
  of the reusable one, which is told the circuit's key artifact.
"""

from __future__ import annotations

from collections.abc import Sequence

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError

from ezkl_patches.field import require_canonical
from ezkl_patches.proof import Proof

__all__ = ["decode_verify_calldata", "encode_verify_calldata"]

#: The first four bytes of keccak256("verifyProof(bytes,uint256[])").
_SELECTOR = bytes.fromhex("1e8e1e13")
#: The first four bytes of keccak256("verifyProof(bytes,uint256[],bytes32[])").
_VKA_SELECTOR = bytes.fromhex("3409fc9f")

#: What ezkl's own calldata ends in.
_NO_WORD = bytes(32)


def encode_verify_calldata(
    proof: bytes, instances: Sequence[int], *, vka: Sequence[bytes] | None = None
) -> bytes:
    """Return the calldata of `verifyProof(proof, instances)`, or of the reusable verifier's form.

    `instances` are the public values as field elements of BN254, 0 <= x < the field's order;
    `vka` are the words of a key artifact, each of 32 bytes. Raises `ValueError` for an instance
    that is not canonical, which a verifier would refuse, and for a word of another length.
    """
    require_canonical(instances)
    if vka is None:
        return _SELECTOR + encode(["bytes", "uint256[]"], [proof, list(instances)])
    if any(len(word) != 32 for word in vka):
        raise ValueError("vka: each word has 32 bytes")
    types = ["bytes", "uint256[]", "bytes32[]"]
    return _VKA_SELECTOR + encode(types, [proof, list(instances), list(vka)])


def decode_verify_calldata(calldata: bytes) -> Proof:
    """Return the proof that calldata carries, in either form; the key artifact is left out.

    Compare decoded values, not calldata: ezkl's own ends in a zero word that means nothing. Raises
    `ValueError` for anything else, such as bytes behind the call, which a contract would not look
    at, and for instances that are not canonical.
    """
    selector, arguments = calldata[:4], calldata[4:]
    if selector not in (_SELECTOR, _VKA_SELECTOR):
        raise ValueError("the calldata is no call of verifyProof")
    types = ["bytes", "uint256[]"] + ["bytes32[]"] * (selector == _VKA_SELECTOR)
    try:
        proof, instances, *vka = decode(types, arguments)
    except (DecodingError, OverflowError) as error:
        raise ValueError(f"the calldata of verifyProof cannot be read: {error}") from None
    read = Proof(proof, instances)
    meant = encode_verify_calldata(proof, instances, vka=vka[0] if vka else None)
    if calldata not in (meant, meant + _NO_WORD):
        raise ValueError("the calldata of verifyProof holds more than the call")
    return read
