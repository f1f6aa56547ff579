"""What a proof workflow takes as its input."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ml.workflows.proof.proof_input import ProofInput

TENSOR = {"dtype": "float", "shape": [1, 2], "values": [[1.0, 2.0]]}


@pytest.mark.parametrize("name", ["outputs", "output"])
def test_an_answer_with_its_proof_is_read_as_its_tensor(name: str) -> None:
    answer = {"artifact": "iris-1", name: TENSOR, "proof": "0x00", "calldata": "0x00"}
    assert ProofInput.model_validate(answer).values.tolist() == [[1.0, 2.0]]


def test_a_key_that_nobody_reads_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(ValidationError, match="did you mean 'model_id'"):
        ProofInput.model_validate({**TENSOR, "model_ids": "iris"})
