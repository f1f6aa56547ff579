"""Tensors as bytes at `/service_output`: sent and answered as the content types say."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from onnx import helper
from safetensors.numpy import load, save

from ml.errors import InvalidInput
from ml.workflows.inference.base_classic_ml_inference_workflow import (
    BaseClassicMLInferenceWorkflow,
)
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow
from ml.workflows.inference.model_file_inference_workflow import ModelFileInferenceWorkflow
from ml.workflows.inference.torch_inference_workflow import TorchInferenceWorkflow
from tests.conftest import MakeApp
from tests.support.model_files import onnx_graph, onnx_tensor

NPY = "application/x-npy"
SAFETENSORS = "application/x-safetensors"
ARROW = "application/vnd.apache.arrow.stream"
IRIS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]], np.float32)


class Square(BaseClassicMLInferenceWorkflow):
    """Answers roots of what it is given; it has none of negative numbers."""

    def do_run_model(self, preprocessed_data: Any) -> Any:
        if preprocessed_data.dtype.kind != "f":
            raise InvalidInput("dtype: expected floats")
        with np.errstate(invalid="ignore"):
            return np.sqrt(preprocessed_data)


class Parts(BaseClassicMLInferenceWorkflow):
    """Answers two tensors."""

    def do_run_model(self, preprocessed_data: Any) -> Any:
        return {"double": 2 * preprocessed_data, "sum": np.sum(preprocessed_data, axis=1)}


class Text(BaseInferenceWorkflow):
    """Takes and answers a text."""

    def do_run_model(self, preprocessed_data: Any) -> Any:
        return preprocessed_data


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def table(array: Any) -> bytes:
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(array)
    sink = pa.BufferOutputStream()
    batch = pa.record_batch({"x": column})
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


WRITERS = {NPY: npy, SAFETENSORS: lambda array: save({"x": array}), ARROW: table}
READERS = {
    NPY: lambda body: np.load(io.BytesIO(body)),
    SAFETENSORS: lambda body: load(body)["output"],
    ARROW: lambda body: (
        pa.ipc.open_stream(body).read_all()["output"].combine_chunks().to_numpy_ndarray()
    ),
}


async def post(client: Any, body: Any, kind: str, accept: str | None = None) -> Any:
    headers = {"Content-Type": kind} | ({"Accept": accept} if accept else {})
    return await client.post("/service_output", data=body, headers=headers)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("wanted", READERS)
async def test_a_tensor_of_any_form_is_answered_in_any_form(
    make_app: MakeApp, kind: str, wanted: str
) -> None:
    arguments = {"model_source": "BUILT_IN", "model_args": {"name": "iris"}}
    client = (await make_app(TorchInferenceWorkflow, workflow_kw_args=arguments)).test_client()
    data = {"dtype": "float", "values": IRIS.tolist()}
    asked = await client.post("/service_output", json={"source": 1, "data": data})
    due = (await asked.get_json())["values"]
    own = await post(client, WRITERS[kind](IRIS), kind)
    assert own.status_code == 200
    assert own.content_type == kind
    np.testing.assert_allclose(READERS[kind](await own.get_data()), due, rtol=1e-6)
    other = await post(client, WRITERS[kind](IRIS), kind, f"text/html;q=0.9, {wanted}, */*;q=0.1")
    assert other.content_type == wanted
    np.testing.assert_allclose(READERS[wanted](await other.get_data()), due, rtol=1e-6)
    as_json = await post(client, WRITERS[kind](IRIS), kind, "application/json")
    assert (await as_json.get_json())["values"] == due
    headers = {"Accept": wanted}
    from_json = await client.post(
        "/service_output", json={"source": 1, "data": data}, headers=headers
    )
    np.testing.assert_allclose(READERS[wanted](await from_json.get_data()), due, rtol=1e-6)


async def test_bytes_hold_what_json_cannot(make_app: MakeApp) -> None:
    client = (await make_app(Square)).test_client()
    given = np.array([4.0, -1.0, np.inf, np.nan])
    reply = await post(client, npy(given), NPY)
    np.testing.assert_array_equal(READERS[NPY](await reply.get_data()), [2, np.nan, np.inf, np.nan])
    assert (await post(client, npy(given), NPY, "application/json")).status_code == 422


@pytest.mark.parametrize("kind", WRITERS)
async def test_failures_are_told_as_ever(make_app: MakeApp, kind: str) -> None:
    client = (await make_app(Square)).test_client()
    refused = await post(client, WRITERS[kind](np.ones((1, 2), np.int64)), kind)
    assert (refused.status_code, refused.content_type) == (400, "application/json")
    assert (await refused.get_json())["description"] == "dtype: expected floats"
    broken = await post(client, b"rubbish", kind)
    assert broken.status_code == 400
    assert "the body is no" in (await broken.get_json())["description"]


async def test_several_outputs_have_their_names_or_a_refusal(make_app: MakeApp) -> None:
    client = (await make_app(Parts)).test_client()
    reply = await post(client, npy(np.ones((2, 3))), NPY, SAFETENSORS)
    answered = load(await reply.get_data())
    assert {name: one.shape for name, one in answered.items()} == {"double": (2, 3), "sum": (2,)}
    refused = await post(client, npy(np.ones((2, 3))), NPY)
    assert refused.status_code == 422
    assert "Accept: application/x-safetensors" in (await refused.get_json())["description"]
    two = save({"a": np.ones((1, 2)), "b": np.ones((1, 2))})
    assert (await post(client, two, SAFETENSORS)).status_code == 400


async def test_a_model_of_several_inputs_takes_them_by_name(
    make_app: MakeApp, tmp_path: Path
) -> None:
    path = onnx_graph(
        tmp_path / "model.onnx",
        [helper.make_node("Add", ["a", "b"], ["y"])],
        [onnx_tensor("a", ["rows", 2]), onnx_tensor("b", ["rows", 2])],
        [onnx_tensor("y", ["rows", 2])],
    )
    arguments = {"path": str(path)}
    client = (await make_app(ModelFileInferenceWorkflow, workflow_kw_args=arguments)).test_client()
    ones = np.ones((3, 2), np.float32)
    both = save({"b": ones, "a": 2 * ones})
    reply = await post(client, both, SAFETENSORS)
    np.testing.assert_array_equal(READERS[SAFETENSORS](await reply.get_data()), 3 * ones)
    refused = await post(client, npy(ones), NPY)
    assert "takes 2 tensors" in (await refused.get_json())["description"]


async def test_other_workflows_and_types_are_refused_with_what_is_taken(make_app: MakeApp) -> None:
    client = (await make_app(Text)).test_client()
    reply = await post(client, npy(IRIS), NPY)
    assert reply.status_code == 415
    assert NPY not in (await reply.get_json())["description"]
    client = (await make_app(Square)).test_client()
    reply = await post(client, npy(IRIS), "application/octet-stream")
    assert reply.status_code == 415
    for kind in WRITERS:
        assert kind in (await reply.get_json())["description"]


async def test_the_api_s_document_names_the_forms(make_app: MakeApp) -> None:
    client = (await make_app(Square)).test_client()
    document = await (await client.get("/openapi.json")).get_json()
    operation = document["paths"]["/service_output"]["post"]
    due = {"application/json", *WRITERS}
    assert operation["requestBody"]["content"].keys() == due
    assert operation["responses"]["200"]["content"].keys() == due


def npy_of(shape: str, dtype: str = "<f8", data: bytes = b"") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def safetensors_of(shape: list[int], data: bytes = b"") -> bytes:
    tensor = {"dtype": "F64", "shape": shape, "data_offsets": [0, len(data)]}
    header = json.dumps({"x": tensor}).encode()
    return len(header).to_bytes(8, "little") + header + data


def table_of_dimensions(number: int) -> bytes:
    storage = pa.FixedSizeListArray.from_arrays(pa.array([1.0]), 1)
    kind = pa.fixed_shape_tensor(pa.float64(), (1,) * number)
    batch = pa.record_batch({"x": pa.ExtensionArray.from_storage(kind, storage)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (NPY, npy_of("(-1, -1)", data=bytes(8))),
        (NPY, npy_of("(0, -1)")),
        (NPY, npy_of("(True, 1)", data=bytes(8))),
        (NPY, npy_of(f"(0, {10**30})")),
        (NPY, npy_of(f"({2**62}, 0)")),
        (NPY, npy_of(f"({'1,' * 65})", data=bytes(8))),
        (NPY, npy_of("(1000000000000,)", dtype="|S0")),
        (SAFETENSORS, safetensors_of([0, 2**63])),
        (SAFETENSORS, safetensors_of([1] * 70, bytes(8))),
        (ARROW, table_of_dimensions(70)),
    ],
)
async def test_shapes_that_no_tensor_has_are_refused(
    make_app: MakeApp, kind: str, body: bytes
) -> None:
    reply = await post((await make_app(Square)).test_client(), body, kind)
    assert reply.status_code == 400, await reply.get_data()
