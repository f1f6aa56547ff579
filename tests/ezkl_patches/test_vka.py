"""Key artifacts of the reusable verifier, and the calldata of attestation."""

from __future__ import annotations

from pathlib import Path

import pytest
from eth_abi.abi import decode

from ezkl_patches import (
    DataSource,
    encode_attestor_arguments,
    encode_data_attestation_calldata,
    encode_register_vka_calldata,
    load_vka,
    parse_vka,
)
from tests.ezkl_patches.test_calldata import keccak256

WORDS = [bytes([i]) * 32 for i in range(3)]
FILE = (3).to_bytes(8, "little") + b"".join(WORDS)
VERIFIER = "0x" + "12" * 20


def test_the_words_of_a_file_are_read(tmp_path: Path) -> None:
    (tmp_path / "vka").write_bytes(FILE)
    assert load_vka(tmp_path / "vka") == WORDS


@pytest.mark.parametrize("data", [b"", FILE[:-1], FILE + b"\0", FILE[:8], b"\1\0\0"])
def test_a_file_of_another_length_is_no_key_artifact(data: bytes) -> None:
    with pytest.raises(ValueError, match="no key artifact"):
        parse_vka(data)


def test_a_key_artifact_is_registered_by_its_words() -> None:
    calldata = encode_register_vka_calldata(WORDS)
    assert calldata[:4] == keccak256(b"registerVka(bytes32[])")[:4]
    assert decode(["bytes32[]"], calldata[4:]) == (tuple(WORDS),)
    with pytest.raises(ValueError, match="32 bytes"):
        encode_register_vka_calldata([b""])


def test_attestation_is_a_call_with_the_verifier_and_its_calldata() -> None:
    calldata = encode_data_attestation_calldata(VERIFIER, b"\x1e\x8e\x1e\x13")
    assert calldata[:4] == keccak256(b"verifyWithDataAttestation(address,bytes)")[:4]
    assert decode(["address", "bytes"], calldata[4:]) == (VERIFIER, b"\x1e\x8e\x1e\x13")


def test_an_attestors_arguments_are_its_sources_offset_and_tolerance() -> None:
    sources = [DataSource(VERIFIER, b"\1\2", 18, 13, 4), DataSource(VERIFIER, b"", 0, 7)]
    data = encode_attestor_arguments(VERIFIER, sources, instance_offset=2, tolerance_quanta=1)
    types = ["address", "(address,bytes,uint8,uint8,uint16)[]", "uint256", "uint256"]
    rows = ((VERIFIER, b"\1\2", 18, 13, 4), (VERIFIER, b"", 0, 7, 1))
    assert decode(types, data) == (VERIFIER, rows, 2, 1)
