"""Calldata for the Solidity verifiers that ezkl generates."""

from __future__ import annotations

import pytest
from eth_abi.abi import decode
from hypothesis import given
from hypothesis import strategies as st

from ezkl_patches import Proof, decode_verify_calldata, encode_verify_calldata

#: The order of BN254's scalar field, as EIP-196 gives it.
ORDER = 21888242871839275222246405745257275088548364400416034343698204186575808495617
instances_of = st.lists(st.integers(0, ORDER - 1), max_size=5)


def keccak256(message: bytes) -> bytes:
    """Keccak-256 of up to 135 bytes, as the Keccak team's reference describes it."""
    mask = 2**64 - 1
    block = bytearray(message.ljust(200, b"\0"))
    block[len(message)] ^= 0x01
    block[135] ^= 0x80
    words = [int.from_bytes(block[i : i + 8], "little") for i in range(0, 200, 8)]
    lanes = [[words[x + 5 * y] for y in range(5)] for x in range(5)]

    def turn(word: int, by: int) -> int:
        return ((word << by % 64) | (word >> (64 - by % 64))) & mask if by % 64 else word

    feedback = 1
    for _ in range(24):
        columns = [a ^ b ^ c ^ d ^ e for a, b, c, d, e in lanes]
        mixed = [columns[x - 1] ^ turn(columns[(x + 1) % 5], 1) for x in range(5)]
        lanes = [[lane ^ mixed[x] for lane in lanes[x]] for x in range(5)]
        x, y, current = 1, 0, lanes[1][0]
        for step in range(24):
            x, y = y, (2 * x + 3 * y) % 5
            current, lanes[x][y] = lanes[x][y], turn(current, (step + 1) * (step + 2) // 2)
        lanes = [
            [lanes[x][y] ^ (~lanes[(x + 1) % 5][y] & lanes[(x + 2) % 5][y]) for y in range(5)]
            for x in range(5)
        ]
        for bit in range(7):
            feedback = (feedback << 1) ^ ((feedback >> 7) * 0x171)
            if feedback & 2:
                lanes[0][0] ^= 1 << ((1 << bit) - 1)
    return b"".join(lanes[x][0].to_bytes(8, "little") for x in range(4))


@given(st.binary(max_size=200), instances_of)
def test_it_is_a_call_of_verify_proof_with_both_arguments(
    proof: bytes, instances: list[int]
) -> None:
    calldata = encode_verify_calldata(proof, instances)
    assert calldata[:4] == keccak256(b"verifyProof(bytes,uint256[])")[:4]
    assert decode(["bytes", "uint256[]"], calldata[4:]) == (proof, tuple(instances))


def test_the_reference_hash_is_the_known_one() -> None:
    assert keccak256(b"").hex().startswith("c5d2460186f7233c927e7db2dcc703c0")


def test_a_known_call_written_out_by_the_abi_specification() -> None:
    def word(number: int) -> bytes:
        return number.to_bytes(32, "big")

    expected = bytes.fromhex("1e8e1e13") + b"".join(
        [word(64), word(128), word(2), b"\xab\xcd".ljust(32, b"\0"), word(2), word(7), word(8)]
    )
    assert encode_verify_calldata(b"\xab\xcd", [7, 8]) == expected


@pytest.mark.parametrize("instance", [-1, ORDER, 2**256 - 1, 2**300])
def test_a_value_that_is_no_canonical_field_element_is_refused(instance: int) -> None:
    with pytest.raises(ValueError, match="instance 1 is not a canonical field element"):
        encode_verify_calldata(b"", [0, instance])


def test_the_largest_field_element_is_taken() -> None:
    assert encode_verify_calldata(b"", [ORDER - 1])[-32:] == (ORDER - 1).to_bytes(32, "big")


# --- reading it back, and the form of the reusable verifier -----------------------------------

words_of = st.lists(st.binary(min_size=32, max_size=32), max_size=4)


@given(st.binary(max_size=200), instances_of, st.none() | words_of)
def test_what_was_encoded_is_read_back(
    proof: bytes, instances: list[int], vka: list[bytes] | None
) -> None:
    calldata = encode_verify_calldata(proof, instances, vka=vka)
    assert decode_verify_calldata(calldata) == Proof(proof, tuple(instances))


@given(st.binary(max_size=200), instances_of, words_of)
def test_a_key_artifact_makes_it_a_call_of_the_reusable_verifier(
    proof: bytes, instances: list[int], vka: list[bytes]
) -> None:
    calldata = encode_verify_calldata(proof, instances, vka=vka)
    assert calldata[:4] == keccak256(b"verifyProof(bytes,uint256[],bytes32[])")[:4]
    read = decode(["bytes", "uint256[]", "bytes32[]"], calldata[4:])
    assert read == (proof, tuple(instances), tuple(vka))


def test_ezkls_own_calldata_with_its_zero_word_at_the_end_is_read() -> None:
    calldata = encode_verify_calldata(b"\xab\xcd", [7, 8]) + bytes(32)
    assert decode_verify_calldata(calldata) == Proof(b"\xab\xcd", (7, 8))


@pytest.mark.parametrize(
    "calldata",
    [
        b"",
        bytes.fromhex("af83a18d") + bytes(96),
        bytes.fromhex("1e8e1e13"),
        bytes.fromhex("1e8e1e13") + b"\xff" * 96,
        encode_verify_calldata(bytes(40), [1, 2])[:-1],
    ],
)
def test_what_is_no_whole_call_of_verify_proof_is_refused(calldata: bytes) -> None:
    with pytest.raises(ValueError, match="verifyProof"):
        decode_verify_calldata(calldata)


def test_calldata_with_an_instance_that_is_not_canonical_is_refused() -> None:
    calldata = encode_verify_calldata(b"", [5])
    with pytest.raises(ValueError, match="instance 0 is not a canonical"):
        decode_verify_calldata(calldata[:-32] + ORDER.to_bytes(32, "big"))


def test_a_word_of_a_key_artifact_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="each word has 32 bytes"):
        encode_verify_calldata(b"", [], vka=[bytes(31)])


# --- nothing behind the call --------------------------------------------------------------------

CALL = encode_verify_calldata(b"\xab\xcd", [7, 8])
REUSABLE = encode_verify_calldata(b"\xab\xcd", [7, 8], vka=[bytes(32)])


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


#: The same arguments with 32 bytes between them that nothing points to.
WITH_A_GAP = CALL[:4] + b"".join(
    [
        word(96),
        word(160),
        word(99),
        word(2),
        b"\xab\xcd".ljust(32, b"\0"),
        word(2),
        word(7),
        word(8),
    ]
)


@pytest.mark.parametrize(
    "calldata",
    [
        *[
            call + behind
            for call in (CALL, REUSABLE)
            for behind in (b"\0", b"x", bytes(31), word(1), bytes(33), bytes(64), CALL)
        ],
        WITH_A_GAP,
    ],
)
def test_calldata_that_holds_more_than_the_call_is_refused(calldata: bytes) -> None:
    with pytest.raises(ValueError, match="holds more than the call"):
        decode_verify_calldata(calldata)
