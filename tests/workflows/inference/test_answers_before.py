"""What the container before in a chain answers is read by those that it is for."""

from __future__ import annotations

from typing import Any

import pytest

from ml.errors import InvalidInput
from ml.workflows.inference.llm_request import LLMRequest
from ml.workflows.inference.proof import PlainProof
from ml.workflows.inference.tensor_input import TensorInput
from ml.workflows.inference.text_input import TextInput
from ml.workflows.inference.tgi_client_inference_workflow import TGIRequest
from ml.workflows.inference.workflow_input import validated
from ml.workflows.proof.proof_input import ProofInput

TENSOR = {"dtype": "float", "shape": [1, 2], "values": [[0.5, 1.5]]}
PROVED = {"artifact": "iris@1", "proof": "0x", "calldata": "0x", "public_values": {}, "seconds": {}}
#: What services answer with a text in it, and with a tensor.
TEXTS = [
    "hello",
    {"output": "hello"},
    {"outputs": "hello"},
    {"outputs": "hello", **PROVED},
    {"output": "hello", "proof": "0x"},
    PlainProof(b"").answer_with("hello"),
    {"output": TENSOR, "outputs": "hello"},
]
TENSORS = [
    TENSOR,
    {"output": TENSOR},
    {"outputs": TENSOR, **PROVED},
    PlainProof(b"").answer_with(TENSOR),
]
#: What holds neither for a model of one input.
NEITHER = [
    {"outputs": [TENSOR, TENSOR], **PROVED},
    {"output": 5},
    {"outputs": None},
    {"output": []},
]


@pytest.mark.parametrize("model", [LLMRequest, TGIRequest])
@pytest.mark.parametrize("data", TEXTS)
def test_a_text_is_taken_out_of_the_answer_before(model: type[TextInput], data: Any) -> None:
    assert validated(model, data).text == "hello"


@pytest.mark.parametrize("model", [LLMRequest, TGIRequest])
@pytest.mark.parametrize("data", TENSORS + NEITHER)
def test_an_answer_without_a_text_is_refused_as_such(model: type[TextInput], data: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        validated(model, data)
    told = "data: expected a text; the answer of the container before holds none"
    assert caught.value.description == told


@pytest.mark.parametrize("model", [TensorInput, ProofInput])
@pytest.mark.parametrize("data", TENSORS)
def test_a_tensor_is_taken_out_of_the_answer_before(model: type[TensorInput], data: Any) -> None:
    assert validated(model, data).values.tolist() == TENSOR["values"]


@pytest.mark.parametrize("model", [TensorInput, ProofInput])
@pytest.mark.parametrize("data", TEXTS[:-1] + NEITHER)
def test_an_answer_without_a_tensor_is_refused(model: type[TensorInput], data: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^data"):
        validated(model, data)
