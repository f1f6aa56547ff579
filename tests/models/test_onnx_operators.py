"""Which ONNX graphs take as long for any values, told by their operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, load_model, save_model

from ml.models.formats.onnx_operators import runs_alike
from tests.support.model_files import linear_onnx, onnx_graph, onnx_tensor


def graph_of(*nodes: Any, folder: Path) -> Path:
    return onnx_graph(folder / "m.onnx", nodes, [onnx_tensor("x", [1])], [onnx_tensor("y", ["n"])])


def test_a_graph_of_layers_runs_alike(tmp_path: Path) -> None:
    assert runs_alike(linear_onnx(tmp_path).path)


@pytest.mark.parametrize(
    "operator", ["Loop", "Scan", "If", "NonZero", "Range", "Expand", "Unknown"]
)
def test_a_graph_that_loops_chooses_or_sizes_by_values_does_not(
    operator: str, tmp_path: Path
) -> None:
    layer = helper.make_node("Relu", ["x"], ["z"])
    assert runs_alike(graph_of(layer, folder=tmp_path))
    assert not runs_alike(
        graph_of(layer, helper.make_node(operator, ["z"], ["y"]), folder=tmp_path)
    )


def test_operators_of_others_do_not_have_the_standard_s_meaning(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], domain="com.example")
    assert not runs_alike(graph_of(node, folder=tmp_path))


def test_a_function_of_the_file_may_loop_under_any_name(tmp_path: Path) -> None:
    path = graph_of(helper.make_node("Relu", ["x"], ["y"]), folder=tmp_path)
    model = load_model(path)
    body = [helper.make_node("Loop", ["a"], ["b"])]
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("", "Relu", ["a"], ["b"], body, opsets))
    save_model(model, path)
    assert not runs_alike(path)


def test_of_a_file_that_is_cut_off_it_is_not_known(tmp_path: Path) -> None:
    path = linear_onnx(tmp_path).path
    whole = path.read_bytes()
    for size in range(len(whole) // 2):
        path.write_bytes(whole[:size])
        assert not runs_alike(path)


@given(content=st.binary(max_size=200))
def test_of_what_is_no_model_it_is_not_known(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "no.onnx"
    path.write_bytes(content)
    assert not runs_alike(path)
