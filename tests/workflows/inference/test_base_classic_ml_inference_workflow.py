"""Tensors in, tensors out, with a model of no particular library."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from ml.errors import InternalError, InvalidInput, NotFound, UnprocessableOutput
from ml.infernet.json_text import to_json
from ml.infernet.legacy import encode_legacy
from ml.infernet.tensor_request import TensorRequest
from ml.infernet.vector import Arithmetic, DataType, Vector, decode_vector
from ml.workflows.inference.base_classic_ml_inference_workflow import (
    BaseClassicMLInferenceWorkflow,
)
from ml.workflows.inference.tensor_output import TensorOutput


class Halve(BaseClassicMLInferenceWorkflow):
    def do_run_model(self, preprocessed_data: Any) -> Any:
        return preprocessed_data / 2

    def supports_model(self, model_id: str) -> bool:
        return model_id == "halve"


class Answer(BaseClassicMLInferenceWorkflow):
    """Answers what it was made with."""

    def do_run_model(self, preprocessed_data: Any) -> Any:
        return self.args[0]


ROW = {"dtype": "double", "values": [[1.0, 3.0]]}


async def infer(workflow: BaseClassicMLInferenceWorkflow, data: Any) -> Any:
    await workflow.setup()
    output = await workflow.inference(data)
    return json.loads(to_json(workflow.encode_offchain(output, data)))


async def onchain(workflow: BaseClassicMLInferenceWorkflow, data: bytes) -> bytes:
    """Return what a contract gets, in the order in which a service calls the hooks."""
    await workflow.setup()
    return await workflow.run(
        lambda: workflow.decode_onchain(data),
        lambda input_data, output: workflow.encode_onchain(output, input_data),
    )


def request(array: np.ndarray[Any, Any], **options: Any) -> bytes:
    return TensorRequest(Vector(array, DataType.from_numpy(array.dtype)), **options).encode()


def test_no_module_of_workflows_imports_torch_before_setup() -> None:
    code = (
        "import sys, ml.workflows.inference.torch_inference_workflow as t;"
        "t.TorchInferenceWorkflow('owner/name');"
        "sys.exit(bool({'torch', 'huggingface_hub', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_a_tensor_is_answered_with_dtype_shape_and_values() -> None:
    answer = await infer(Halve(), ROW)
    assert answer == {"dtype": "double", "shape": [1, 2], "values": [[0.5, 1.5]]}


async def test_an_answer_is_an_input_of_the_next_workflow() -> None:
    answer = await infer(Halve(), await infer(Halve(), ROW))
    assert answer["values"] == [[0.25, 0.75]]


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        (np.array([1 + 2j]), {"dtype": "cdouble", "shape": [1], "values": [[1.0, 2.0]]}),
        (np.float32(0.5), {"dtype": "float", "shape": [], "values": 0.5}),
        ([[True, False]], {"dtype": "bool", "shape": [1, 2], "values": [[True, False]]}),
        (np.eye(2, dtype=">i2"), {"dtype": "short", "shape": [2, 2], "values": [[1, 0], [0, 1]]}),
        (
            np.arange(4.0).reshape(2, 2).T,
            {"dtype": "double", "shape": [2, 2], "values": [[0.0, 2.0], [1.0, 3.0]]},
        ),
        (
            (np.array([1]), {"a": np.array([2.5])}),
            [
                {"dtype": "long", "shape": [1], "values": [1]},
                {"a": {"dtype": "double", "shape": [1], "values": [2.5]}},
            ],
        ),
        ("text", "text"),
    ],
    ids=["complex", "scalar", "list", "big-endian", "transposed", "several", "text"],
)
async def test_what_a_model_returns_is_written_as_json(output: Any, answer: Any) -> None:
    assert await infer(Answer(output), ROW) == answer


async def test_an_output_that_is_not_numbers_is_the_workflows_fault() -> None:
    with pytest.raises(InternalError, match="not of numbers"):
        await infer(Answer(np.array(["a"])), ROW)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (np.array([np.nan, 1.0, -np.inf]), "2 values that are NaN or infinite"),
        (np.array([complex(0, np.nan)]), "1 value that is NaN or infinite"),
        ({"a": np.array([np.inf]), "b": [np.array([np.nan])]}, "2 values"),
        (np.float16("inf"), "1 value"),
    ],
)
async def test_an_output_that_json_cannot_hold_is_unprocessable_and_counted(
    output: Any, message: str
) -> None:
    with pytest.raises(UnprocessableOutput, match=message):
        await infer(Answer(output), ROW)


async def test_a_contract_gets_nan_and_infinities_as_ieee_bits() -> None:
    answer = await onchain(Answer(np.array([np.nan, -np.inf])), request(np.ones((1, 1))))
    np.testing.assert_array_equal(decode_vector(answer).values, [np.nan, -np.inf])


async def test_a_tensor_request_is_answered_with_an_ieee_vector() -> None:
    answer = decode_vector(await onchain(Halve(), request(np.array([[1.0, 3.0]], np.float32))))
    assert answer.dtype is DataType.FLOAT32
    assert answer.arithmetic is Arithmetic.IEEE
    assert answer.values.tolist() == [[0.5, 1.5]]


async def test_a_tensor_request_may_ask_for_fixed_point() -> None:
    asked = request(np.array([[1.0]]), output_arithmetic=Arithmetic.FIXED_POINT, output_decimals=6)
    answer = decode_vector(await onchain(Halve(), asked))
    assert (answer.arithmetic, answer.decimals) == (Arithmetic.FIXED_POINT, 6)
    assert answer.values.tolist() == [[0.5]]


async def test_nan_has_no_fixed_point_form() -> None:
    asked = request(np.ones(1), output_arithmetic=Arithmetic.FIXED_POINT)
    with pytest.raises(UnprocessableOutput):
        await onchain(Answer(np.array([np.nan])), asked)


async def test_the_legacy_form_is_one_row_of_doubles_and_is_answered_with_a_vector() -> None:
    answer = decode_vector(await onchain(Halve(), encode_legacy(np.array([1.0, 3.0]))))
    assert answer.dtype is DataType.FLOAT64
    assert answer.values.tolist() == [[0.5, 1.5]]


async def test_complex_and_boolean_answers_reach_a_contract() -> None:
    for array in (np.array([[1 - 2j]]), np.array([True, False]), np.array(3)):
        answer = decode_vector(await onchain(Answer(array), request(np.ones(1))))
        np.testing.assert_array_equal(answer.values, array)


async def test_a_contract_cannot_get_several_tensors() -> None:
    with pytest.raises(UnprocessableOutput, match="several"):
        await onchain(Answer([np.ones(1), np.ones(2)]), request(np.ones(1)))


def test_a_delegated_request_is_answered_with_an_ieee_vector() -> None:
    workflow = Halve()
    input_data = workflow.decode_offchain(ROW)
    answer = workflow.encode_onchain(TensorOutput.of(np.array([0.5])), input_data)
    assert decode_vector(answer).values.tolist() == [0.5]


def test_a_request_that_names_the_model_is_answered() -> None:
    assert Halve().decode_onchain(request(np.ones(1), model_id="halve")).values.tolist() == [1.0]


def test_a_request_that_names_another_model_is_refused_by_name() -> None:
    with pytest.raises(NotFound, match="model_id: 'other/model' is not served here"):
        Halve().decode_onchain(request(np.ones(1), model_id="other/model"))


@pytest.mark.parametrize("data", [b"", b"\0", b"\0" * 64, b"text" * 64])
def test_bytes_that_are_no_tensor_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        Halve().decode_onchain(data)
