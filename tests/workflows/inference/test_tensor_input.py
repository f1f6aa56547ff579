"""Reading the tensor of a request."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ml.errors import InvalidInput
from ml.infernet.json_text import to_json
from ml.infernet.tensor_request import TensorRequest
from ml.infernet.vector import Arithmetic, DataType, Vector
from ml.workflows.inference.base_classic_ml_inference_workflow import (
    BaseClassicMLInferenceWorkflow,
)
from ml.workflows.inference.tensor_input import DTYPES, OnchainTensorInput, TensorInput
from ml.workflows.inference.tensor_output import TensorOutput

SECRET = 987654321


class Echo(BaseClassicMLInferenceWorkflow):
    def do_run_model(self, preprocessed_data: Any) -> Any:
        return preprocessed_data


def read(data: Any) -> TensorInput:
    tensor = Echo().decode_offchain(data)
    assert isinstance(tensor, TensorInput)
    return tensor


def refusal(data: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        read(data)
    assert str(SECRET) not in str(caught.value)
    assert "data" in str(caught.value)
    return caught.value.description


@pytest.mark.parametrize("dtype", DTYPES)
def test_each_dtype_of_the_document_is_read(dtype: str) -> None:
    values: Any = [[0, 1, 1], [1, 0, 1]]
    if dtype == "bool":
        values = [[False, True, True], [True, False, True]]
    if dtype.startswith("c"):
        values = [[[v, -v] for v in row] for row in values]
    tensor = read({"dtype": dtype, "values": values})
    assert tensor.values.dtype == DTYPES[dtype]
    assert tensor.values.shape == (2, 3)
    expected = np.array([[0, 1, 1], [1, 0, 1]])
    np.testing.assert_array_equal(
        tensor.values, expected * (1 - 1j) if dtype.startswith("c") else expected
    )


def test_other_keys_are_ignored() -> None:
    tensor = read({"dtype": "double", "values": [1.5], "bot": "text", "shape": [9], "code": 1})
    assert tensor.values.tolist() == [1.5]


def test_a_single_number_is_a_tensor_without_dimensions() -> None:
    assert read({"dtype": "long", "values": 3}).values.shape == ()


def test_booleans_may_be_0_and_1() -> None:
    assert read({"dtype": "bool", "values": [0, True, 1]}).values.tolist() == [False, True, True]


def test_whole_numbers_are_floats_too() -> None:
    assert read({"dtype": "half", "values": [1, 2.5]}).values.tolist() == [1.0, 2.5]


@pytest.mark.parametrize(
    ("dtype", "values", "message"),
    [
        ("double", [[SECRET, 2.0], [3.0]], "lists of one length at depth 1; given lengths from 1"),
        ("double", [[[1, 2]], [[1], [2]]], "lists of one length at depth 1"),
        ("double", [[1.0], SECRET], "a list beside an integer at depth 1"),
        ("double", [1.0, [2.0]], "a list beside a number"),
        ("double", [1.0, "987654321"], "expected numbers for dtype 'double'; given a string"),
        ("double", ["987654321", None], "given a string and null"),
        ("double", [1.0, None], "given null"),
        ("double", [{"a": SECRET}], "given an object"),
        ("double", [1.0, True], "given true or false"),
        ("double", "987654321", "given a string"),
        ("double", None, "given null"),
        ("double", [], "expected at least one value; given an empty list"),
        ("double", [[], []], "expected at least one value"),
        ("double", [[1.0], []], "lists of one length"),
        ("double", [1e400], "finite numbers within the range of dtype 'double'"),
        ("double", [10**400], "finite numbers within the range of dtype 'double'"),
        ("double", [float("nan")], "finite numbers"),
        ("float", [1e39], "within the range of dtype 'float'"),
        ("half", [65520.0], "within the range of dtype 'half'"),
        ("bfloat16", [3.3961776e38], "within the range of dtype 'bfloat16'"),
        ("cfloat", [[1e39, 0.0]], "within the range of dtype 'float'"),
        ("long", [1.0], "expected integers for dtype 'long'; given a number with a fraction"),
        ("long", [True], "expected integers for dtype 'long'; given true or false"),
        ("long", [2**63], "from -9223372036854775808 to 9223372036854775807 for dtype 'long'"),
        ("int", [2**31], "from -2147483648 to 2147483647 for dtype 'int'"),
        ("short", [-(2**15) - 1], "from -32768 to 32767 for dtype 'short'"),
        ("int8", [128], "from -128 to 127 for dtype 'int8'"),
        ("uint8", [-1], "from 0 to 255 for dtype 'uint8'"),
        ("uint8", [SECRET], "from 0 to 255 for dtype 'uint8'"),
        ("bool", [2], "from 0 to 1 for dtype 'bool'"),
        ("bool", [0.0], "expected true and false for dtype 'bool'; given a number"),
        ("cdouble", [1.0, 2.0, 3.0], "expected [re, im] pairs, so a last dimension of 2"),
        ("cdouble", 1.0, "given shape []"),
    ],
)
def test_wrong_values_are_refused_with_what_was_expected_and_given(
    dtype: str, values: Any, message: str
) -> None:
    assert message in refusal({"dtype": dtype, "values": values})


def test_largest_values_of_each_float_type_are_read() -> None:
    for dtype, largest in (("half", 65504.0), ("float", 3.4028234e38), ("bfloat16", 3.3895e38)):
        assert np.isfinite(read({"dtype": dtype, "values": [largest, -largest]}).values).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "data: expected an object with 'dtype' and 'values'; given null"),
        ("text", "data: expected an object with 'dtype' and 'values'; given a string"),
        ([1.0], "data: expected an object with 'dtype' and 'values'; given a list"),
        ({}, "data.dtype: Field required; data.values: Field required"),
        ({"dtype": "double"}, "data.values: Field required"),
        ({"dtype": "float32", "values": [1]}, "given 'float32'; did you mean 'float'?"),
        ({"dtype": "x" * 99, "values": [1]}, "given a string"),
        ({"dtype": 7, "values": [1]}, "data.dtype: expected one of float, double, cfloat"),
        ({"dtype": ["double"], "values": [1]}, "given a list"),
        ({"code": "400", "name": "Bad Request", "description": "…"}, "data.dtype: Field required"),
        (
            {"inputs": {"x": {"dtype": "long", "values": [SECRET]}}},
            "data: this model takes one tensor, with 'dtype' and 'values' and without a name; "
            "given tensors by name, under 'inputs'",
        ),
    ],
)
def test_a_wrong_form_is_refused_by_field(data: Any, message: str) -> None:
    assert message in refusal(data)


def test_nesting_is_limited_to_16_dimensions() -> None:
    values: Any = 1.0
    for _ in range(16):
        values = [values]
    assert read({"dtype": "double", "values": values}).values.ndim == 16
    assert "at most 16 dimensions" in refusal({"dtype": "double", "values": [values]})


def test_one_long_text_among_many_numbers_costs_no_memory() -> None:
    """As an array of texts this would take terabytes."""
    values = [1.0] * 100_000 + ["x" * 1_000_000]
    assert "given a number with a fraction" not in refusal({"dtype": "double", "values": values})


@pytest.mark.parametrize("shape", [(100_000,), (1000, 100)])
def test_100_000_numbers_take_a_few_milliseconds(shape: tuple[int, ...]) -> None:
    data = {"dtype": "double", "values": np.random.default_rng(0).random(shape).tolist()}
    times = []
    for _ in range(5):
        started = time.thread_time()
        TensorInput.model_validate(data)
        times.append(time.thread_time() - started)
    assert min(times) < 0.05


def test_an_array_of_the_dtype_is_taken_as_it_is() -> None:
    array = np.array([np.nan, 1.0])
    assert read({"dtype": "double", "values": array}).values is array


def test_an_array_of_another_dtype_is_refused() -> None:
    message = refusal({"dtype": "double", "values": np.ones(2, np.float32)})
    assert "expected a float64 array" in message
    assert "given float32 of shape [2]" in message


ARRAYS = st.sampled_from([name for name in DTYPES if name != "bfloat16"]).flatmap(
    lambda name: hnp.arrays(
        DTYPES[name],
        hnp.array_shapes(min_dims=0, max_dims=4, max_side=4),
        elements={"allow_nan": False, "allow_infinity": False}
        if DTYPES[name].kind in "fc"
        else None,
    )
)


@given(ARRAYS)
def test_an_output_read_as_an_input_is_the_same_tensor(array: np.ndarray[Any, Any]) -> None:
    form = TensorOutput.of(array).to_json()
    again = TensorInput.model_validate(json.loads(to_json(form)))
    assert form["shape"] == list(array.shape)
    assert again.values.dtype == array.dtype
    np.testing.assert_array_equal(again.values, array)


def request(array: np.ndarray[Any, Any], **options: Any) -> TensorRequest:
    return TensorRequest(Vector(array, DataType.from_numpy(array.dtype)), **options)


@pytest.mark.parametrize("dtype", [name for name in DTYPES if name != "bfloat16"])
def test_a_contracts_tensor_keeps_its_dtype(dtype: str) -> None:
    array = np.ones((1, 2), DTYPES[dtype])
    tensor = OnchainTensorInput.from_request(request(array))
    assert tensor.dtype == dtype
    assert tensor.values is array


def test_a_contracts_nan_passes() -> None:
    array = np.array([np.nan, np.inf])
    assert OnchainTensorInput.from_request(request(array)).values is array


def test_a_contracts_empty_tensor_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"expected at least one; given shape \[0, 69\]"):
        OnchainTensorInput.from_request(request(np.zeros((0, 69))))


def test_a_contracts_dtype_that_the_document_does_not_have_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"expected one of float32, .*; given uint16"):
        OnchainTensorInput.from_request(request(np.zeros(2, np.uint16)))


def test_the_answers_form_is_the_one_asked_for_and_ieee_by_default() -> None:
    array = np.ones(1)
    plain = OnchainTensorInput.from_request(request(array))
    assert (plain.output_arithmetic, plain.output_decimals) == (Arithmetic.IEEE, 18)
    asked = OnchainTensorInput.from_request(
        request(array, output_arithmetic=Arithmetic.FIXED_POINT, output_decimals=6)
    )
    assert (asked.output_arithmetic, asked.output_decimals) == (Arithmetic.FIXED_POINT, 6)


@pytest.mark.parametrize("name", ["outputs", "output"])
def test_the_tensor_of_an_answer_with_its_proof_is_read(name: str) -> None:
    answer = {name: {"dtype": "float", "shape": [2], "values": [1.5, 2.5]}, "proof": "0x00"}
    assert TensorInput.model_validate(answer).values.tolist() == [1.5, 2.5]
    given = answer | {"dtype": "int", "values": [3]}
    assert TensorInput.model_validate(given).values.tolist() == [3]


@pytest.mark.parametrize("outputs", [[{"dtype": "float", "values": [1.0]}] * 2, "text", None])
def test_an_answer_without_its_one_tensor_is_refused(outputs: object) -> None:
    with pytest.raises(ValueError, match="dtype"):
        TensorInput.model_validate({"outputs": outputs})
