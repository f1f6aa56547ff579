"""Tensors as bytes: what is written is read again, and what is no tensor is refused in words."""

from __future__ import annotations

import io
import json
import math
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import load, save

from ml.errors import InvalidInput, UnprocessableOutput
from ml.workflows.inference.body_formats.installed import tensor_formats
from ml.workflows.inference.tensor_input import DTYPES, TensorInput
from ml.workflows.inference.tensor_output import TensorOutput

FORMATS = tensor_formats()
NPY, SAFETENSORS, ARROW = FORMATS.values()
KINDS = pytest.mark.parametrize("kind", FORMATS, ids=["npy", "safetensors", "arrow"])
REAL = sorted({dtype for dtype in DTYPES.values() if dtype.kind != "c"}, key=str)


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def arrow(columns: dict[str, Any], **options: Any) -> bytes:
    batch = pa.record_batch(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, **options) as writer:
        writer.write_batch(batch)
        writer.write_batch(batch)
    return bytes(sink.getvalue())


@KINDS
@settings(deadline=None, max_examples=60)
@given(
    array=st.sampled_from(REAL).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(max_dims=4, max_side=4))
    )
)
def test_a_tensor_that_is_written_is_read_as_it_was(kind: bytes, array: Any) -> None:
    form = FORMATS[kind]
    data = TensorInput.model_validate(form.read(form.write(TensorOutput.of(array))))
    assert data.values.dtype == array.dtype
    np.testing.assert_array_equal(data.values, array)


@pytest.mark.parametrize("form", [NPY, SAFETENSORS])
def test_complex_tensors_have_a_place_but_in_a_table(form: Any) -> None:
    array = np.array([[1 + 2j]], np.complex64)
    np.testing.assert_array_equal(form.read(form.write(TensorOutput.of(array)))["values"], array)
    with pytest.raises(UnprocessableOutput, match="no place in a table"):
        ARROW.write(TensorOutput.of(array))


def test_numpy_s_own_writer_and_reader_are_understood() -> None:
    array = np.arange(6, dtype=">f4").reshape(2, 3)
    for given_array in (array, np.asfortranarray(array), array[:, ::2]):
        data = NPY.read(npy(given_array))
        assert data["dtype"] == "float"
        np.testing.assert_array_equal(data["values"], given_array)
    for shape in ((), (1,), (2, 3), (0, 3)):
        answered = np.load(io.BytesIO(NPY.write(TensorOutput.of(np.ones(shape, np.float32)))))
        assert answered.shape == shape


def test_bfloat16_is_read_from_safetensors() -> None:
    head = {"x": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [0, 4]}}
    text = json.dumps(head).encode()
    body = struct.pack("<Q", len(text)) + text + struct.pack("<HH", 0x3F80, 0xC000)
    data = SAFETENSORS.read(body)
    assert data["dtype"] == "bfloat16"
    assert data["values"].tolist() == [[1.0, -2.0]]


def test_several_tensors_have_names() -> None:
    body = save({"a": np.ones(2), "b": np.zeros((2, 1), np.int32)})
    inputs = SAFETENSORS.read(body)["inputs"]
    assert {name: one["dtype"] for name, one in inputs.items()} == {"a": "double", "b": "int"}
    output = {"label": TensorOutput.of(np.ones(2)), "all": [TensorOutput.of(np.zeros((2, 3)))]}
    assert sorted(load(SAFETENSORS.write(output))) == ["all.0", "label"]
    table = pa.ipc.open_stream(ARROW.write(output)).read_all()
    assert table["all.0"].combine_chunks().to_numpy_ndarray().shape == (2, 3)
    with pytest.raises(UnprocessableOutput, match="one tensor, and the answer 2"):
        NPY.write(output)
    with pytest.raises(UnprocessableOutput, match="as many rows as each other"):
        ARROW.write([TensorOutput.of(np.ones(2)), TensorOutput.of(np.ones(3))])
    with pytest.raises(UnprocessableOutput, match="no tensor"):
        SAFETENSORS.write({"a": "text"})


def test_tables_as_people_have_them_are_read() -> None:
    lists = pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2))
    nested = pa.array([[[1, 2], [3, 4]]] * 2, pa.list_(pa.list_(pa.int64(), 2), 2))
    shaped = pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 3, 1), np.float16))
    inputs = ARROW.read(arrow({"a": lists, "b": nested, "c": shaped, "d": [True, False]}))["inputs"]
    shapes = {name: one["values"].shape for name, one in inputs.items()}
    assert shapes == {"a": (4, 2), "b": (4, 2, 2), "c": (4, 3, 1), "d": (4,)}
    assert inputs["a"]["values"].tolist() == [[1, 2], [3, 4]] * 2


NULLS = pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2))
INNER_NULL = pa.array([[1.0, None], [1.0, 2.0]], pa.list_(pa.float32(), 2))
SIZED = npy(np.zeros((2, 2), np.float32))
U2 = np.zeros(1, np.uint16)
REFUSED = {
    "npy: nothing": (NPY, b"", "no .npy file"),
    "npy: JSON": (NPY, b'{"a": 1}', "no .npy file"),
    "npy: of objects": (NPY, npy(np.array([{}]), allow_pickle=True), "no plain numbers"),
    "npy: of fields": (NPY, npy(np.zeros(2, [("a", "f4")])), "no plain numbers"),
    "npy: of texts": (NPY, npy(np.array(["a"])), "expected elements of"),
    "npy: of times": (NPY, npy(np.array(["2020-01-01"], "M8[D]")), "expected elements of"),
    "npy: of uint16": (NPY, npy(np.zeros(1, np.uint16)), "given uint16"),
    "npy: cut": (NPY, SIZED[:-1], "should have 16 bytes behind its header.*it has 15"),
    "npy: too long": (NPY, SIZED + b"x", "it has 17"),
    "npy: huge": (NPY, SIZED.replace(b"(2, 2)", b"(9999999999, 99)"), "should have"),
    "npy: negative": (NPY, SIZED.replace(b"(2, 2)", b"(-2,-2)"), "npy file"),
    "npy: of rank 60": (NPY, npy(np.zeros((1,) * 60)) + b"x", r"shape [\[1, ]{100} of float64"),
    "npy: an expression": (NPY, SIZED.replace(b"False", b"f(1) "), r"malformed node[^:<]*$"),
    "npy: a zip": (NPY, b"PK\x03\x04" + b"0" * 99, "no .npy file"),
    "npy: another version": (NPY, SIZED.replace(b"NUMPY\x01", b"NUMPY\x09"), "version|npy file"),
    "safetensors: nothing": (SAFETENSORS, b"", "no safetensors file"),
    "safetensors: rubbish": (SAFETENSORS, b"x" * 50, "no safetensors file"),
    "safetensors: no tensor": (SAFETENSORS, save({}), "holds no tensor"),
    "safetensors: of uint16": (SAFETENSORS, save({"x": np.zeros(1, np.uint16)}), "x: .* given U16"),
    "safetensors: cut": (SAFETENSORS, save({"x": np.zeros(9)})[:-1], "no safetensors file"),
    "safetensors: a long name": (SAFETENSORS, save({"x" * 9999: U2}), "^x{100}: expected"),
    "arrow: a long name": (ARROW, arrow({"x" * 9999: [1.0, None]}), "^x{100}: a tensor has"),
    "arrow: a long name of texts": (ARROW, arrow({"x" * 9999: ["x"]}), "^x{100}: expected"),
    "arrow: a long name of uint16": (ARROW, arrow({"x" * 9999: U2}), "^x{100}: expected"),
    "arrow: nothing": (ARROW, b"", "no rows|no stream of Arrow"),
    "arrow: rubbish": (ARROW, b"x" * 50, "no stream of Arrow"),
    "arrow: cut": (ARROW, arrow({"a": [1.0]})[:-200], "no stream of Arrow"),
    "arrow: texts": (ARROW, arrow({"a": ["x"]}), "a: expected a column of numbers.* given string"),
    "arrow: lists": (ARROW, arrow({"a": [[1.0]]}), "given list"),
    "arrow: nulls": (ARROW, arrow({"a": [1.0, None]}), "a: a tensor has no nulls"),
    "arrow: null lists": (ARROW, arrow({"a": NULLS}), "a: a tensor has no nulls"),
    "arrow: null in a list": (ARROW, arrow({"a": INNER_NULL}), "a: a tensor has no nulls"),
    "arrow: dates": (ARROW, arrow({"a": pa.array([1], pa.date32())}), "given date32"),
    "arrow: words": (ARROW, arrow({"a": pa.array(["x"]).dictionary_encode()}), "given dictionary"),
    "arrow: compressed": (
        ARROW,
        arrow({"a": np.zeros(9999)}, options=pa.ipc.IpcWriteOptions(compression="zstd")),
        "without compression",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_tensor_is_refused_in_words(case: str) -> None:
    form, body, why = REFUSED[case]
    with pytest.raises(InvalidInput, match=why):
        TensorInput.model_validate(form.read(body))


@KINDS
@settings(deadline=None, max_examples=200)
@given(
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=6),
    kept=st.floats(0.5, 1),
)
def test_a_damaged_body_is_refused_and_breaks_nothing(
    kind: bytes, changes: list[tuple[int, int]], kept: float
) -> None:
    form = FORMATS[kind]
    body = bytearray(form.write(TensorOutput.of(np.arange(6, dtype=np.float32).reshape(2, 3))))
    for place, byte in changes:
        body[place % len(body)] = byte
    try:
        data = form.read(bytes(body[: math.ceil(kept * len(body))]))
    except InvalidInput:
        return
    assert data.keys() == {"dtype", "values"}
