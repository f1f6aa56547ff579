"""Answering tensors with model files of libraries beside torch."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import catboost
import numpy as np
import onnx
import pandas as pd
import pytest
import xgboost
from onnx import helper, numpy_helper
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from skops.io import dump

from ml.errors import ConfigurationError, InvalidInput, NotFound, UnprocessableOutput
from ml.infernet.json_text import to_json
from ml.infernet.legacy import encode_legacy
from ml.infernet.tensor_request import TensorRequest
from ml.infernet.vector import Arithmetic, DataType, Vector, decode_vector
from ml.workflows.inference.model_file_inference_workflow import ModelFileInferenceWorkflow
from ml.workflows.inference.tensor_input import DTYPES
from ml.workflows.inference.torch_inference_workflow import TorchInferenceWorkflow
from tests.support.model_files import MODELS, ROWS, Saved, flowers, onnx_graph, onnx_tensor

ENGINES = tuple(MODELS)


async def loaded(path: Path, **arguments: Any) -> ModelFileInferenceWorkflow:
    workflow = ModelFileInferenceWorkflow(path, **arguments)
    await workflow.setup()
    return workflow


async def infer(workflow: ModelFileInferenceWorkflow, data: Any) -> Any:
    output = await workflow.inference(workflow.decode_offchain(data))
    return json.loads(to_json(workflow.encode_offchain(output, data)))


async def onchain(workflow: ModelFileInferenceWorkflow, data: bytes) -> Vector:
    answer = await workflow.run(
        lambda: workflow.decode_onchain(data),
        lambda input_data, output: workflow.encode_onchain(output, input_data),
    )
    return decode_vector(answer)


@pytest.fixture(scope="module", params=ENGINES)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A model file of each library."""
    return MODELS[request.param](tmp_path_factory.mktemp("model"))


# --- every library ----------------------------------------------------------------------------


async def test_an_answer_is_the_library_s_own(saved: Saved) -> None:
    workflow = await loaded(saved.path)
    answer = await infer(workflow, {"dtype": saved.dtype, "values": ROWS.tolist()})
    assert answer["dtype"] == saved.answers
    assert answer["shape"] == list(saved.due.shape)
    np.testing.assert_allclose(answer["values"], saved.due, rtol=1e-5, atol=1e-6)
    assert answer.get("labels") == (list(saved.labels) if saved.labels else None)


async def test_a_contract_gets_the_vector_of_the_same_answer(saved: Saved) -> None:
    workflow = await loaded(saved.path)
    row = Vector(ROWS[:1], DataType.FLOAT64, Arithmetic.FIXED_POINT, 18)
    request = TensorRequest(row, workflow.source.model_id)
    vector = await onchain(workflow, request.encode())
    np.testing.assert_allclose(vector.values, saved.due[:1], rtol=1e-5, atol=1e-6)
    legacy = await onchain(workflow, encode_legacy(ROWS[0]))
    np.testing.assert_array_equal(legacy.values, vector.values)
    with pytest.raises(NotFound, match="is not served here"):
        await onchain(workflow, TensorRequest(row, "huggingface/some/other").encode())


async def test_a_batch_answers_as_single_runs_do(saved: Saved) -> None:
    workflow = await loaded(saved.path)
    parts = [ROWS[:1], ROWS[1:], ROWS[:2]]
    requests = [{"dtype": saved.dtype, "values": part.tolist()} for part in parts]
    items = [workflow.do_preprocessing(request) for request in requests]
    for _ in range(2):  # the first proves, the second trusts
        outputs = workflow.do_run_batch(items)
        for output, part in zip(outputs, (slice(1), slice(1, 3), slice(2)), strict=True):
            np.testing.assert_allclose(output[-1], saved.due[part], rtol=1e-5, atol=1e-6)
    assert workflow._batching.may_batch


async def test_models_without_loops_may_run_on_the_event_loop(saved: Saved) -> None:
    workflow = await loaded(saved.path)
    assert workflow.runs_alike == (saved.path.suffix not in (".xml", ".skops"))
    assert (
        workflow.input_size(
            workflow.do_preprocessing({"dtype": saved.dtype, "values": ROWS.tolist()})
        )
        == ROWS.size
    )


async def test_a_subclass_may_do_anything_in_its_hooks(saved: Saved) -> None:
    class Own(ModelFileInferenceWorkflow):
        pass

    workflow = Own(saved.path)
    await workflow.setup()
    assert not workflow.runs_alike


@pytest.mark.parametrize("values", [[[1, 2, 3]], [1, 2, 3, 4], 1, [[[1, 2, 3, 4]]]])
async def test_a_wrong_width_or_rank_says_expected_and_given(saved: Saved, values: Any) -> None:
    workflow = await loaded(saved.path)
    shape = list(np.shape(values))
    with pytest.raises(InvalidInput) as refused:
        await infer(workflow, {"dtype": saved.dtype, "values": values})
    assert f"values: expected shape [any, 4]; given shape {shape}" in str(refused.value)


async def test_a_wrong_dtype_says_expected_and_given(saved: Saved) -> None:
    workflow = await loaded(saved.path)
    with pytest.raises(InvalidInput, match=r"dtype: expected .*'float'.*; given 'cfloat'"):
        await infer(workflow, {"dtype": "cfloat", "values": [[[1, 0]] * 4]})


async def test_the_node_is_told_the_engine_and_the_model(saved: Saved) -> None:
    workflow = ModelFileInferenceWorkflow(path=saved.path)
    entry = workflow.compute_capability()
    assert entry["inference_engine"] in ENGINES
    assert entry["models"] == [saved.path.name]
    assert workflow.supports_model(saved.path.name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "git lfs pull"),
        (b"\n<!DOCTYPE html>\n<html>", "a web page, not a model"),
        (b'{"a": 1}' * 99, "cannot be loaded as"),
        (b"\x00\x01\x02 no model" * 99, "cannot be loaded as"),
        (pickle.dumps(ROWS), "cannot be loaded as"),
    ],
    ids=["empty", "pointer", "page", "json", "damaged", "pickle"],
)
async def test_what_is_no_model_is_refused_by_name(
    saved: Saved, tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / saved.path.name
    path.write_bytes(content)
    path.with_suffix(".bin").write_bytes(b"weights")
    with pytest.raises(ConfigurationError, match=rf"{path.name}: .*{message}"):
        await loaded(path)


async def test_a_model_that_is_cut_off_is_refused(saved: Saved, tmp_path: Path) -> None:
    path = tmp_path / saved.path.name
    path.write_bytes(saved.path.read_bytes()[: saved.path.stat().st_size * 2 // 3])
    path.with_suffix(".bin").write_bytes(b"weights")
    with pytest.raises(ConfigurationError, match=rf"{path.name}: cannot be loaded as"):
        await loaded(path)


async def test_torch_s_workflow_says_which_class_a_file_of_another_library_needs(
    saved: Saved,
) -> None:
    with pytest.raises(ConfigurationError, match=r"set the workflow class .*ModelFileInference"):
        TorchInferenceWorkflow(saved.path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "model.pkl"}, "a pickle can run any code.*skops"),
        ({"path": "model.dat"}, "no library is known for this ending"),
        ({"path": "model.dat", "engine": "onxruntime"}, "did you mean 'onnxruntime'"),
        ({"path": "model.onnx", "safe_classes": ["a.B"]}, "files of onnxruntime hold no classes"),
        ({"path": "model.onnx", "modle": 1}, "no such argument: 'modle'"),
        ({"path": "model.txt", "mmap": True}, "mmap: lightgbm copies what files hold"),
        ({"model_source": "BUILT_IN", "model_args": {"name": "iris"}}, "is torch's"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ModelFileInferenceWorkflow(**arguments)


# --- ONNX ---------------------------------------------------------------------------------------


async def test_several_inputs_and_outputs_have_names(tmp_path: Path) -> None:
    path = onnx_graph(
        tmp_path / "two.onnx",
        [
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("Mul", ["a", "b"], ["product"]),
        ],
        [onnx_tensor("a", ["n", 2]), onnx_tensor("b", ["n", 2])],
        [onnx_tensor("sum", ["n", 2]), onnx_tensor("product", ["n", 2])],
    )
    a, b = ({"dtype": "float", "values": values} for values in ([[1, 2]], [[3, 4]]))
    workflow = await loaded(path)
    assert await infer(workflow, {"inputs": {"b": b, "a": a}}) == {
        "sum": {"dtype": "float", "shape": [1, 2], "values": [[4, 6]]},
        "product": {"dtype": "float", "shape": [1, 2], "values": [[3, 8]]},
    }
    items = [workflow.do_preprocessing({"inputs": {"a": one, "b": b}}) for one in (a, b)]
    for _ in range(2):
        assert [np.vstack(out).tolist() for out in workflow.do_run_batch(items)] == [
            [[4, 6], [3, 8]],
            [[6, 8], [9, 16]],
        ]
    for message, data in {
        "given one without a name": a,
        "inputs: expected a, b; given a": {"inputs": {"a": a}},
        r"inputs\.b\.dtype: expected 'float'; given 'long'": {
            "inputs": {"a": a, "b": {"dtype": "long", "values": [[1, 2]]}}
        },
        r"inputs\.b\.values: expected numbers": {
            "inputs": {"a": a, "b": {"dtype": "float", "values": [["x"]]}}
        },
        "the model does not take this input": {
            "inputs": {
                "a": {"dtype": "float", "values": [[1, 2]] * 2},
                "b": {**b, "values": [[1, 2]] * 3},
            }
        },
    }.items():
        with pytest.raises(InvalidInput, match=message):
            await infer(workflow, data)
    one = await loaded(path, outputs=["product"])
    answer = await infer(one, {"inputs": {"a": a, "b": b}})
    assert answer == {"dtype": "float", "shape": [1, 2], "values": [[3, 8]]}
    with pytest.raises(
        ConfigurationError, match=r"outputs: two.onnx has no 'total'; it has sum, p"
    ):
        await loaded(path, outputs=["total"])


async def test_a_classifier_answers_its_labels_with_their_probabilities(tmp_path: Path) -> None:
    """As converters from scikit-learn write one: texts, and a ZipMap."""
    path = tmp_path / "classifier.onnx"
    names = ["no", "yes"]
    onnx_graph(
        path,
        [
            helper.make_node(
                "LinearClassifier",
                ["x"],
                ["label", "scores"],
                domain="ai.onnx.ml",
                classlabels_strings=names,
                coefficients=[1.0, 0.0, 0.0, 1.0],
                intercepts=[0.0, 0.0],
                post_transform="SOFTMAX",
            ),
            helper.make_node(
                "ZipMap",
                ["scores"],
                ["probabilities"],
                domain="ai.onnx.ml",
                classlabels_strings=names,
            ),
        ],
        [onnx_tensor("x", ["n", 2])],
        [
            onnx_tensor("label", ["n"], "STRING"),
            helper.make_value_info(
                "probabilities",
                helper.make_sequence_type_proto(
                    helper.make_map_type_proto(8, helper.make_tensor_type_proto(1, []))
                ),
            ),
        ],
    )
    request = {"dtype": "float", "values": [[1, 2], [5, 1]]}
    workflow = await loaded(path)
    answer = await infer(workflow, request)
    assert answer["label"] == ["yes", "no"]
    assert answer["probabilities"]["labels"] == names
    np.testing.assert_allclose(np.sum(answer["probabilities"]["values"], axis=1), 1, rtol=1e-6)
    item = workflow.do_preprocessing(request)
    for _ in range(2):
        for output in workflow.do_run_batch([item, item]):
            assert output[0].tolist() == ["yes", "no"]
    row = TensorRequest(
        Vector(np.array([[1.0, 2.0]]), DataType.FLOAT64, Arithmetic.FIXED_POINT, 18)
    )
    with pytest.raises(UnprocessableOutput, match="several"):
        await onchain(workflow, row.encode())
    alone = await loaded(path, outputs=["probabilities"])
    assert (await onchain(alone, row.encode())).values.shape == (1, 2)


async def test_a_model_that_mixes_rows_is_run_singly(tmp_path: Path) -> None:
    path = onnx_graph(
        tmp_path / "mean.onnx",
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0]),
            helper.make_node("Sub", ["x", "mean"], ["y"]),
        ],
        [onnx_tensor("x", ["n", 2])],
        [onnx_tensor("y", ["n", 2])],
    )
    workflow = await loaded(path)
    items = [
        workflow.do_preprocessing({"dtype": "float", "values": [row]}) for row in ([1, 2], [5, 7])
    ]
    for _ in range(2):
        assert [output[0].tolist() for output in workflow.do_run_batch(items)] == [[[0, 0]]] * 2
    assert not workflow._batching.may_batch


async def test_an_index_out_of_range_is_the_callers_to_mend(tmp_path: Path) -> None:
    path = onnx_graph(
        tmp_path / "gather.onnx",
        [helper.make_node("Gather", ["w", "x"], ["y"])],
        [onnx_tensor("x", ["n", 1], "INT64")],
        [onnx_tensor("y", ["n", 1, 2])],
        [numpy_helper.from_array(np.ones((4, 2), np.float32), "w")],
    )
    workflow = await loaded(path)
    assert (await infer(workflow, {"dtype": "long", "values": [[3]]}))["shape"] == [1, 1, 2]
    with pytest.raises(InvalidInput, match="indices element out of data bounds"):
        await infer(workflow, {"dtype": "long", "values": [[99]]})


@pytest.mark.parametrize("dtype", [name for name in DTYPES if name not in ("cfloat", "cdouble")])
async def test_the_dtypes_of_onnx_go_through_a_model(dtype: str, tmp_path: Path) -> None:
    kinds = {
        "float": "FLOAT", "double": "DOUBLE", "half": "FLOAT16", "bfloat16": "BFLOAT16",
        "uint8": "UINT8", "int8": "INT8", "short": "INT16", "int": "INT32", "long": "INT64",
        "bool": "BOOL",
    }  # fmt: skip
    tensors = (onnx_tensor(name, ["n", 2], kinds[dtype]) for name in "xy")
    path = tmp_path / "same.onnx"
    node = helper.make_node("Identity", ["x"], ["y"])
    onnx_graph(path, [node], [next(tensors)], [next(tensors)])
    if dtype == "bfloat16":
        with pytest.raises(
            ConfigurationError, match=r"'x' is a tensor.bfloat16., which no request"
        ):
            await loaded(path)
        return
    values = [[True, False]] if dtype == "bool" else [[1, 0]]
    request = {"dtype": dtype, "values": values}
    assert await infer(await loaded(path), request) == {**request, "shape": [1, 2]}


async def test_a_dimension_without_a_readable_name_is_a_damaged_file(tmp_path: Path) -> None:
    path = MODELS["onnxruntime"](tmp_path).path
    path.write_bytes(path.read_bytes().replace(b"rows", b"\xffows"))
    with pytest.raises(ConfigurationError, match=r"model\.onnx: cannot be loaded as"):
        await loaded(path)


# --- OpenVINO, scikit-learn and boosters ------------------------------------------------------


async def test_openvino_runs_onnx_files_where_it_is_asked_for(tmp_path: Path) -> None:
    saved = MODELS["onnxruntime"](tmp_path)
    workflow = await loaded(saved.path, engine="openvino")
    assert workflow.compute_capability()["inference_engine"] == "openvino"
    answer = await infer(workflow, {"dtype": "float", "values": ROWS.tolist()})
    np.testing.assert_allclose(answer["values"], saved.due, rtol=1e-5)


async def test_openvino_s_weights_are_missed_by_name(tmp_path: Path) -> None:
    path = MODELS["openvino"](tmp_path).path
    path.with_suffix(".bin").unlink()
    with pytest.raises(ConfigurationError, match=r"model\.bin: there is no such model file"):
        await loaded(path)


async def test_an_openvino_model_without_a_readable_name_is_damaged(tmp_path: Path) -> None:
    path = MODELS["openvino"](tmp_path).path
    path.write_bytes(path.read_bytes().replace(b'names="x"', b'names="\xff"'))
    with pytest.raises(ConfigurationError, match=r"model\.xml: cannot be loaded as"):
        await loaded(path)


async def test_types_that_skops_does_not_know_are_refused_by_name(tmp_path: Path) -> None:
    model = RandomForestClassifier(n_estimators=3, random_state=0).fit(*flowers())
    dump(model, tmp_path / "forest.skops")
    with pytest.raises(ConfigurationError, match=r"sklearn\.tree\._tree\.Tree.*safe_classes"):
        await loaded(tmp_path / "forest.skops")
    workflow = await loaded(tmp_path / "forest.skops", safe_classes=["sklearn.tree._tree.Tree"])
    answer = await infer(workflow, {"dtype": "double", "values": ROWS.tolist()})
    np.testing.assert_allclose(answer["values"], model.predict_proba(ROWS))
    assert answer["labels"] == [0, 1, 2]


class Runs:
    """Would write a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


async def test_an_object_in_a_skops_file_does_not_run(tmp_path: Path) -> None:
    model = Ridge().fit(*flowers())
    model.note = Runs(tmp_path / "marker")
    dump(model, tmp_path / "model.skops")
    with pytest.raises(ConfigurationError, match="not allowed"):
        await loaded(tmp_path / "model.skops")
    assert not (tmp_path / "marker").exists()


async def test_scikit_learn_s_models_answer_what_they_can(tmp_path: Path) -> None:
    """Predictions where there are no probabilities; texts by their number; or a transformation."""
    rows, kinds = flowers()
    names = np.array(["a", "b", "c"])
    columns = ColumnTransformer([("scaled", StandardScaler(), ["two", "four"])])
    frame = pd.DataFrame(rows, columns=["one", "two", "three", "four"])
    for model, due, labels in [
        (Ridge().fit(rows, kinds), Ridge().fit(rows, kinds).predict(ROWS), None),
        (LinearSVC().fit(rows, names[kinds]), [0, 2, 1], names.tolist()),
        (StandardScaler().fit(rows), StandardScaler().fit(rows).transform(ROWS), None),
        (columns.fit(frame), StandardScaler().fit(rows).transform(ROWS)[:, [1, 3]], None),
    ]:
        dump(model, tmp_path / "model.skops")
        workflow = await loaded(tmp_path / "model.skops")
        answer = await infer(workflow, {"dtype": "double", "values": ROWS.tolist()})
        np.testing.assert_allclose(answer["values"], due)
        assert answer.get("labels") == labels
    dump({"no": "model"}, tmp_path / "model.skops")
    with pytest.raises(ConfigurationError, match="an object of type dict, which has no predict"):
        await loaded(tmp_path / "model.skops")


@pytest.mark.parametrize("name", ["sklearn", "xgboost", "lightgbm", "catboost"])
async def test_libraries_that_convert_take_all_real_dtypes(name: str, tmp_path: Path) -> None:
    workflow = await loaded(MODELS[name](tmp_path).path)
    for dtype in ("float", "half", "long", "int", "uint8", "bool"):
        values = [[True, False, True, True]] if dtype == "bool" else [[5, 3, 1, 0]]
        doubles = [[float(value) for value in values[0]]]
        answer = await infer(workflow, {"dtype": dtype, "values": values})
        due = await infer(workflow, {"dtype": "double", "values": doubles})
        np.testing.assert_allclose(answer["values"], due["values"], rtol=1e-2, err_msg=dtype)


async def test_a_linear_booster_of_xgboost_answers(tmp_path: Path) -> None:
    rows, kinds = flowers()
    matrix = xgboost.DMatrix(rows, kinds)
    booster = xgboost.train({"booster": "gblinear"}, matrix, 3)
    booster.save_model(tmp_path / "model.json")
    workflow = await loaded(tmp_path / "model.json")
    answer = await infer(workflow, {"dtype": "double", "values": ROWS.tolist()})
    np.testing.assert_allclose(answer["values"], booster.predict(xgboost.DMatrix(ROWS)), rtol=1e-6)


# --- CatBoost -----------------------------------------------------------------------------------

OPTIONS: dict[str, Any] = {
    "iterations": 4,
    "depth": 2,
    "thread_count": 1,
    "verbose": False,
    "allow_writing_files": False,
}


@pytest.mark.parametrize("loss", ["RMSE", "Poisson", "RMSEWithUncertainty", "MultiRMSE"])
async def test_a_regressor_of_catboost_answers_what_predict_does(loss: str, tmp_path: Path) -> None:
    rows, kinds = flowers()
    model = catboost.CatBoostRegressor(**OPTIONS, loss_function=loss)
    model.fit(rows, np.stack([kinds, -kinds], 1) if loss == "MultiRMSE" else kinds)
    model.save_model(tmp_path / "model.cbm")
    answer = await infer(
        await loaded(tmp_path / "model.cbm"), {"dtype": "double", "values": ROWS.tolist()}
    )
    np.testing.assert_allclose(answer["values"], model.predict(ROWS))
    assert "labels" not in answer


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        (lambda kinds: kinds > 0, [False, True]),
        (lambda kinds: np.minimum(kinds, 1) + 7, [7, 8]),
        (lambda kinds: np.stack([kinds == 0, kinds > 0, kinds > 1], 1).astype(int), [0, 1, 2]),
    ],
    ids=["bools", "numbers", "several-at-once"],
)
async def test_a_classifier_of_catboost_answers_probabilities_with_its_labels(
    classes: Any, labels: list[Any], tmp_path: Path
) -> None:
    rows, kinds = flowers()
    loss = "MultiLogloss" if len(labels) == 3 else "Logloss"
    model = catboost.CatBoostClassifier(**OPTIONS, loss_function=loss).fit(rows, classes(kinds))
    model.save_model(tmp_path / "model.cbm")
    answer = await infer(
        await loaded(tmp_path / "model.cbm"), {"dtype": "double", "values": ROWS.tolist()}
    )
    np.testing.assert_allclose(answer["values"], model.predict_proba(ROWS))
    assert answer["labels"] == labels


@pytest.mark.parametrize("kind", ["categories", "texts"])
async def test_a_model_of_catboost_that_takes_more_than_numbers_is_refused(
    kind: str, tmp_path: Path
) -> None:
    features = {"categories": "cat_features", "texts": "text_features"}[kind]
    model = catboost.CatBoostClassifier(**OPTIONS, **{features: ["colour"]})
    frame = pd.DataFrame({"size": range(40), "colour": ["red sky", "blue sea"] * 20})
    model.fit(frame, [0, 1] * 20).save_model(tmp_path / "model.cbm")
    with pytest.raises(ConfigurationError, match=f"its features colour are {kind}, which no"):
        await loaded(tmp_path / "model.cbm")


@pytest.mark.parametrize("form", ["json", "onnx"])
async def test_other_formats_of_catboost_are_refused_with_the_one_that_is_read(
    form: str, tmp_path: Path
) -> None:
    model = catboost.CatBoostRegressor(**OPTIONS).fit(*flowers())
    model.save_model(tmp_path / f"model.{form}", format=form)
    with pytest.raises(ConfigurationError, match=r'which save_model\(path, format="cbm"\) writes'):
        await loaded(tmp_path / f"model.{form}", engine="catboost")


async def test_what_catboost_exports_as_onnx_answers_the_same(tmp_path: Path) -> None:
    rows, kinds = flowers()
    model = catboost.CatBoostClassifier(**OPTIONS).fit(rows, np.array(["a", "b", "c"])[kinds])
    model.save_model(tmp_path / "model.onnx", format="onnx")
    workflow = await loaded(tmp_path / "model.onnx", outputs=["probabilities"])
    answer = await infer(workflow, {"dtype": "float", "values": ROWS.tolist()})
    np.testing.assert_allclose(answer["values"], model.predict_proba(ROWS), rtol=1e-5)
    assert answer["labels"] == ["a", "b", "c"]


# --- files that end their library -------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "index", "outside"),
    [
        ("xgboost", rb'(?<="left_children":\[)\d+', b"88888888"),
        ("xgboost-ubj", rb"(?<=left_children\[\$l#L.{8}).{4}", b"\x7f\0\0\0"),
        ("catboost", rb"(?<=\x02\0\0\0\x02\0\0\0\x0a\0\0\0).{4}", b"\xff\xff\xff\x7f"),
    ],
    ids=["xgboost", "xgboost-ubj", "catboost"],
)
async def test_a_file_that_would_end_its_library_does_not_end_the_service(
    name: str, index: bytes, outside: bytes, tmp_path: Path
) -> None:
    """A tree leads out of the file, where the library follows it."""
    path = MODELS[name](tmp_path).path
    content, found = re.subn(index, lambda _: outside, path.read_bytes(), count=1, flags=re.DOTALL)
    assert found
    path.write_bytes(content)
    message = rf"{path.name}: cannot be loaded as .* damaged: it ends its library by SIGSEGV"
    with pytest.raises(ConfigurationError, match=message):
        await loaded(path)


# --- weights beside an ONNX file --------------------------------------------------------------


def with_weights_beside(folder: Path, location: str = "weights.bin") -> Path:
    """Save a linear layer whose weights are in a file of their own."""
    weights = np.eye(256, dtype=np.float32) * 2
    path = onnx_graph(
        folder / "large.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [onnx_tensor("x", ["n", 256])],
        [onnx_tensor("y", ["n", 256])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save_model(onnx.load(path), path, save_as_external_data=True, location=location)
    return path


def mapped_files() -> str:
    return Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("mmap", [True, False])
async def test_weights_stay_in_the_file_beside_where_that_is_asked_for(
    mmap: bool, tmp_path: Path
) -> None:
    workflow = await loaded(with_weights_beside(tmp_path), mmap=mmap)
    answer = await infer(workflow, {"dtype": "float", "values": [[1.5] * 256]})
    assert answer["values"] == [[3.0] * 256]
    weights = tmp_path / "weights.bin"
    assert (str(weights) in mapped_files()) is mmap
    assert workflow.model_bytes() > weights.stat().st_size == 4 * 256 * 256


async def test_a_file_that_has_its_weights_in_it_is_not_mapped(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"mmap: .*save_as_external_data=True"):
        await loaded(MODELS["onnxruntime"](tmp_path).path, mmap=True)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such model file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "git lfs pull"),
    ],
    ids=["missing", "pointer"],
)
async def test_weights_that_are_not_beside_their_file_are_missed_by_name(
    engine: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = with_weights_beside(tmp_path)
    (tmp_path / "weights.bin").unlink()
    if content is not None:
        (tmp_path / "weights.bin").write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"weights\.bin: .*{message}"):
        await loaded(path, engine=engine)


async def test_weights_outside_of_the_folder_are_refused(tmp_path: Path) -> None:
    path = with_weights_beside(tmp_path)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../" * 9 + "etc/passwd"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ConfigurationError, match=r"etc/passwd', outside of its folder"):
        await loaded(path)
