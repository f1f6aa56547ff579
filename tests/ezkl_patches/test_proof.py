"""Proofs as ezkl returns and writes them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezkl_patches import FIELD_ORDER, Proof
from tests.support.processes import clean_environment

ONE = (1).to_bytes(32, "little").hex()
RETURNED = {"instances": [[ONE, (2**13).to_bytes(32, "little").hex()]], "proof": "0x0aff"}
PROOF = Proof(b"\x0a\xff", (1, 2**13))


def test_what_prove_returns_is_read() -> None:
    assert Proof.from_dict(RETURNED) == PROOF


def test_the_file_that_prove_writes_is_read(tmp_path: Path) -> None:
    """What a reader of the file could be fooled with is left aside."""
    file = RETURNED | {
        "proof": [10, 255],
        "hex_proof": "0xdead",
        "pretty_public_inputs": {"outputs": [["0x09"]]},
        "version": "23.0.5",
    }
    path = tmp_path / "proof.json"
    path.write_text(json.dumps(file))
    assert Proof.read(path) == PROOF


@given(st.binary(max_size=99), st.lists(st.integers(0, FIELD_ORDER - 1), max_size=5))
def test_a_proof_is_the_same_after_a_file(proof: bytes, instances: list[int]) -> None:
    whole = Proof(proof, tuple(instances))
    assert Proof.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole


@pytest.mark.parametrize("instances", [[], [[]]])
def test_a_circuit_without_public_values_has_no_instances(instances: list[Any]) -> None:
    assert Proof.from_dict(RETURNED | {"instances": instances}).instances == ()


@pytest.mark.parametrize("value", [FIELD_ORDER, FIELD_ORDER + 1, 2**256 - 1])
def test_a_field_element_that_is_not_canonical_is_refused(value: int) -> None:
    element = value.to_bytes(32, "little").hex()
    with pytest.raises(ValueError, match="instance 1 is not a canonical field element"):
        Proof.from_dict(RETURNED | {"instances": [[ONE, element]]})
    with pytest.raises(ValueError, match="instance 0 is not a canonical"):
        Proof(b"", (value,))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"instances": [["0x" + ONE]]}, "instance 0"),
        ({"instances": [[ONE[:-2]]]}, "instance 0"),
        ({"instances": [[ONE[:-1] + " "]]}, "instance 0"),
        ({"instances": [[1]]}, "instance 0"),
        ({"instances": [[ONE], [ONE]]}, "instances: expected"),
        ({"instances": [ONE]}, "instances: expected"),
        ({"instances": ONE}, "instances: expected"),
        ({"proof": "0aff"}, "proof: expected"),
        ({"proof": "0x0af"}, "proof: expected"),
        ({"proof": [256]}, "proof: expected"),
        ({"proof": [True]}, "proof: expected"),
        ({"proof": None}, "proof: expected"),
    ],
)
def test_anything_else_is_refused(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Proof.from_dict(RETURNED | changes)


@pytest.mark.parametrize("name", ["proof", "instances"])
def test_a_missing_part_is_named(name: str) -> None:
    document = {key: value for key, value in RETURNED.items() if key != name}
    with pytest.raises(ValueError, match=f"{name}: missing"):
        Proof.from_dict(document)


@pytest.mark.parametrize("text", ["[]", "{", "1"])
def test_a_file_without_a_proof_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "proof.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"expected|Expecting"):
        Proof.read(path)


def test_reading_proofs_needs_no_ezkl() -> None:
    code = "import sys, ezkl_patches; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert not {"ezkl", "numpy", "ml"} & set(done.stdout.split())
