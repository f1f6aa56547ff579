"""Answering tensors with model files of torch."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
import torch
from torch import nn

from ml.errors import ConfigurationError, InvalidInput, NotFound, OutOfMemory, UnprocessableOutput
from ml.infernet.json_text import to_json
from ml.infernet.legacy import encode_legacy
from ml.infernet.tensor_request import TensorRequest
from ml.infernet.vector import Arithmetic, DataType, Vector, decode_vector
from ml.models.source import BuiltInSource, HubSource, LocalSource
from ml.workflows.inference.tensor_input import DTYPES
from ml.workflows.inference.torch_inference_workflow import TorchInferenceWorkflow

IRIS = {"model_source": "BUILT_IN", "model_args": {"name": "iris"}}
CLASSIFIER = {"model_source": "BUILT_IN", "model_args": {"name": "classifier_69"}}

USER_MODULE = """
import torch
from torch import nn

class Mixing(nn.Module):
    def forward(self, x):
        return x - x.mean(dim=0)

class Total(nn.Module):
    def forward(self, x):
        return x.sum()

class Pair(nn.Module):
    def forward(self, x):
        return x + 1, {"double": 2 * x, "positive": x > 0}

class Broken(nn.Module):
    def forward(self, x):
        raise RuntimeError("a fault of the model's own")

class Greedy(nn.Module):
    def forward(self, x):
        return torch.zeros(10**14)

class CountsRuns(nn.Module):
    runs = 0
    def forward(self, x):
        CountsRuns.runs += 1
        return x * 2
"""


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make workflows of models whose classes are not torch's."""
    (tmp_path / "made_up_layers.py").write_text(USER_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    import made_up_layers  # type: ignore[import-not-found]

    importlib.reload(made_up_layers)

    async def workflow(name: str) -> TorchInferenceWorkflow:
        model = getattr(made_up_layers, name)()
        return await loaded(model, tmp_path, safe_classes=[f"made_up_layers.{name}"])

    workflow.module = made_up_layers  # type: ignore[attr-defined]
    return workflow


async def loaded(model: nn.Module, folder: Path, **kwargs: Any) -> TorchInferenceWorkflow:
    path = folder / "saved.torch"
    torch.save(model, path)
    workflow = TorchInferenceWorkflow(path=path, **kwargs)
    await workflow.setup()
    return workflow


async def infer(workflow: TorchInferenceWorkflow, dtype: str, values: Any) -> Any:
    data = {"dtype": dtype, "values": values}
    output = await workflow.inference(data)
    return json.loads(to_json(workflow.encode_offchain(output, data)))


async def onchain(workflow: TorchInferenceWorkflow, data: bytes) -> Vector:
    answer = await workflow.run(
        lambda: workflow.decode_onchain(data),
        lambda input_data, output: workflow.encode_onchain(output, input_data),
    )
    return decode_vector(answer)


def batch_of(workflow: TorchInferenceWorkflow, *items: Any, dtype: str = "float") -> list[Any]:
    """Run several requests' values in one batch."""
    tensors = [workflow.do_preprocessing({"dtype": dtype, "values": item}) for item in items]
    return workflow.do_run_batch(tensors)


# --- naming the model -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "kwargs", "source"),
    [
        (["owner/name"], {}, HubSource("owner/name", "model.torch")),
        (["owner/name"], {"filename": "a.pt"}, HubSource("owner/name", "a.pt")),
        (["folder/a.pt"], {}, LocalSource(Path("folder/a.pt"), "model.torch")),
        (["/a/b/c"], {}, LocalSource(Path("/a/b/c"), "model.torch")),
        (["./name"], {}, LocalSource(Path("name"), "model.torch")),
        ([], {"path": "name"}, LocalSource(Path("name"), "model.torch")),
        (
            [],
            {"repo_id": "owner/name", "filename": "a.pt", "revision": "v2"},
            HubSource("owner/name", "a.pt", "v2"),
        ),
        ([], {"repo_id": "gpt2"}, HubSource("gpt2", "model.torch")),
        (
            [],
            {
                "model_source": "HUGGINGFACE_HUB",
                "model_args": {"repo_id": "owner/name", "filename": "a.pt", "revision": None},
            },
            HubSource("owner/name", "a.pt"),
        ),
        (
            [],
            {"model_source": "LOCAL", "model_args": {"path": "a.pt"}},
            LocalSource(Path("a.pt"), "model.torch"),
        ),
        ([], IRIS, BuiltInSource("iris")),
    ],
)
def test_the_model_is_named_in_each_form(args: list[str], kwargs: Any, source: Any) -> None:
    assert TorchInferenceWorkflow(*args, **kwargs).source == source


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "give one of: model .* given none"),
        ({"repo_id": "a/b", "path": "c"}, "given repo_id and path"),
        ({"model": "a/b", **IRIS}, "given model and model_source"),
        ({"model": "iris"}, r"neither a path that exists nor owner/name; .*BUILT_IN.*'iris'"),
        ({"model": "irs"}, "did you mean 'iris'"),
        ({"model": ""}, "model: give a text"),
        ({"model": 7}, "model: give a text"),
        ({"repo_id": "a/b/c"}, "not of the form owner/name"),
        ({"path": "a.pt", "revision": "main"}, "revision: a local path has none"),
        ({"model_args": {"path": "x"}}, "model_args: needs model_source"),
        ({"model_source": "LOCAL"}, "model_args: give an object with path"),
        ({"model_source": "LOCAL", "model_args": ["x"]}, "model_args: give an object with path"),
        ({"model_source": "LOCAL", "model_args": {}}, "model_args.path: Field required"),
        ({"model_source": "LOCAL", "model_args": {"path": 7}}, "model_args.path: give a text"),
        (
            {"model_source": "LOCAL", "model_args": {"pth": "x"}},
            "model_args: no such argument: 'pth'; did you mean 'path'",
        ),
        (
            {"model_source": "HUGGINGFACE_HUB", "model_args": {"repo_id": "a/b", "file": "x"}},
            "model_args: no such argument: 'file'; did you mean 'filename'",
        ),
        (
            {"model_source": "huggingface", "model_args": {}},
            "none of HUGGINGFACE_HUB, LOCAL, BUILT_IN; did you mean 'HUGGINGFACE_HUB'",
        ),
        ({**IRIS, "filename": "x"}, "belong into model_args"),
        ({"model_source": "BUILT_IN", "model_args": {"name": "rose"}}, "no built-in model 'rose'"),
        ({**IRIS, "use_jit": "true"}, "use_jit: Input should be a valid boolean"),
        ({**IRIS, "allow_pickle": 1}, "allow_pickle: Input should be a valid boolean"),
        ({**IRIS, "safe_classes": "a.B"}, "safe_classes: Input should be a valid tuple"),
        ({**IRIS, "safe_classes": ["B"]}, r"safe_classes\.0: give a dotted path"),
    ],
)
def test_arguments_that_cannot_work_are_refused_by_name(kwargs: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TorchInferenceWorkflow(**kwargs)


@pytest.mark.parametrize(
    ("kwargs", "messages"),
    [
        (
            {"model": "a/b", "path": 7, "revision": ""},
            ["given model and path", "path: give a text", "revision: give a text"],
        ),
        (
            {"repo_id": "a/b/c", "filename": "../x", "model_args": {}},
            ["repo_id: 'a/b/c'", "filename: '../x'", "model_args: needs model_source"],
        ),
        (
            {"model_source": "LOCAL", "model_args": {"pth": 1, "fil": 2}, "filename": "x"},
            ["'pth'; did", "'fil'", "model_args.path: Field", "belong into model_args"],
        ),
    ],
)
def test_all_that_is_wrong_with_a_model_s_arguments_is_told_at_once(
    kwargs: Any, messages: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        TorchInferenceWorkflow(**kwargs)
    for message in messages:
        assert message in str(refused.value)


def test_the_file_name_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_MODEL_FILE_NAME", "other.torch")
    assert TorchInferenceWorkflow("a/b").source == HubSource("a/b", "other.torch")
    assert TorchInferenceWorkflow("a/b", filename="c").source == HubSource("a/b", "c")


def test_empty_environment_variables_count_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_MODEL_FILE_NAME", "")
    monkeypatch.setenv("USE_JIT", "")
    assert TorchInferenceWorkflow("a/b").source == HubSource("a/b", "model.torch")


def test_a_wrong_environment_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USE_JIT", "perhaps")
    with pytest.raises(ConfigurationError, match=r"^USE_JIT: Input should be a valid boolean"):
        TorchInferenceWorkflow("a/b")


async def test_use_jit_of_the_environment_loads_torchscript(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = script(nn.Linear(2, 1), tmp_path / "m.torch")
    monkeypatch.setenv("USE_JIT", "true")
    workflow = TorchInferenceWorkflow(path)
    await workflow.setup()
    assert (await infer(workflow, "float", [[1, 2]]))["shape"] == [1, 1]


def script(model: nn.Module, path: Path) -> Path:
    with pytest.warns(DeprecationWarning, match=r"torch\.jit"):
        torch.jit.save(torch.jit.script(model.eval()), path)
    return path


async def test_a_missing_file_fails_setup_readably_and_the_workflow_is_not_set_up() -> None:
    workflow = TorchInferenceWorkflow(path="nothing.torch")
    with pytest.raises(ConfigurationError, match=r"nothing\.torch: there is no such model file"):
        await workflow.setup()
    assert not workflow.is_setup


@pytest.mark.parametrize("device", ["cuda:99", "toaster"])
async def test_a_device_that_is_not_there_is_named(device: str) -> None:
    workflow = TorchInferenceWorkflow(**IRIS, device=device)
    with pytest.raises(ConfigurationError, match=f"device: '{device}' cannot be used"):
        await workflow.setup()


async def test_a_closed_workflow_can_be_set_up_again() -> None:
    workflow = TorchInferenceWorkflow(**IRIS)
    for _ in range(2):
        await workflow.setup()
        assert (await infer(workflow, "float", [[5.1, 3.5, 1.4, 0.2]]))["shape"] == [1, 3]
        await workflow.close()


# --- answers ----------------------------------------------------------------------------------


async def test_the_documents_request_is_answered_with_probabilities() -> None:
    example = Path(__file__).parents[3] / "examples" / "classic_request.json"
    workflow = TorchInferenceWorkflow(**CLASSIFIER)
    await workflow.setup()
    data = json.loads(example.read_text())["data"]
    answer = await workflow.inference(workflow.decode_offchain(data))
    assert (answer.dtype, answer.array.shape) == ("double", (1, 2))
    assert answer.array.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("dtype", DTYPES)
async def test_all_twelve_dtypes_go_through_a_model(dtype: str, tmp_path: Path) -> None:
    workflow = await loaded(nn.Sequential(nn.Flatten(0)), tmp_path)
    values: Any = [[0, 1], [1, 1]]
    if dtype == "bool":
        values = [[False, True], [True, True]]
    if dtype.startswith("c"):
        values = [[[0, 0.5], [1, -1.5]], [[1, 2], [1, 0]]]
    answer = await infer(workflow, dtype, values)
    assert answer == {"dtype": dtype, "shape": [4], "values": [*values[0], *values[1]]}


async def test_bfloat16_rounds_as_torch_does(tmp_path: Path) -> None:
    workflow = await loaded(nn.Sequential(nn.Identity()), tmp_path)
    numbers = [0.1, 1.00390625, 3.3895e38, -1e-40]
    answer = await infer(workflow, "bfloat16", numbers)
    due = torch.tensor(numbers, dtype=torch.bfloat16).tolist()
    assert np.array(answer["values"], np.float32).tolist() == due


async def test_several_outputs_become_a_list_and_objects(users: Any) -> None:
    answer = await infer(await users("Pair"), "long", [[1, -1]])
    assert answer == [
        {"dtype": "long", "shape": [1, 2], "values": [[2, 0]]},
        {
            "double": {"dtype": "long", "shape": [1, 2], "values": [[2, -2]]},
            "positive": {"dtype": "bool", "shape": [1, 2], "values": [[True, False]]},
        },
    ]


async def test_dropout_is_off_and_gradients_are_not_kept(tmp_path: Path) -> None:
    workflow = await loaded(nn.Sequential(nn.Linear(3, 3), nn.Dropout()).train(), tmp_path)
    first = await infer(workflow, "float", [[1, 2, 3]])
    assert first == await infer(workflow, "float", [[1, 2, 3]])
    tensor = workflow.do_preprocessing({"dtype": "float", "values": [[1, 2, 3]]})
    assert not workflow.do_run_model(tensor).requires_grad


async def test_a_non_finite_answer_is_unprocessable(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    nn.init.constant_(model[0].bias, float("inf"))
    with pytest.raises(UnprocessableOutput, match="2 values that are NaN or infinite"):
        await infer(await loaded(model, tmp_path), "float", [[1, 2]])


async def test_an_exported_program_answers_and_refuses_as_other_models_do(tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    program = torch.export.export(nn.Linear(2, 1).eval(), (torch.zeros(1, 2),))
    torch.export.save(program, path)
    workflow = TorchInferenceWorkflow(path, allow_pickle=True)
    await workflow.setup()
    assert (await infer(workflow, "float", [[1, 2]]))["shape"] == [1, 1]
    with pytest.raises(InvalidInput, match=r"shape \[1, 3\]"):
        await infer(workflow, "float", [[1, 2, 3]])


# --- wrong inputs -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "values", "message"),
    [
        ("float", [[1, 2, 3]], r"values: expected a last dimension of 4; given shape \[1, 3\]"),
        ("float", 1.0, r"values: expected a last dimension of 4; given shape \[\]"),
        ("double", [[1, 2, 3, 4]], "dtype: expected 'float'; given 'double'"),
        ("long", [[1, 2, 3, 4]], "dtype: expected 'float'; given 'long'"),
        ("bfloat16", [[1, 2, 3, 4]], "dtype: expected 'float'; given 'bfloat16'"),
    ],
)
async def test_a_wrong_width_or_dtype_says_expected_and_given(
    dtype: str, values: Any, message: str
) -> None:
    workflow = TorchInferenceWorkflow(**IRIS)
    await workflow.setup()
    with pytest.raises(InvalidInput, match=message):
        await infer(workflow, dtype, values)


@pytest.mark.parametrize(
    ("model", "dtype", "values", "message"),
    [
        (nn.Conv2d(3, 1, 1), "float", [[[[1]]]], "to have 3 channels, but got 1"),
        (nn.Conv2d(1, 1, 1), "float", [1, 2], r"Expected 3D .* \[2\]"),
        (nn.Conv2d(1, 1, 3), "float", [[[1]]], "greater than actual input size"),
        (nn.Conv2d(1, 1, 1), "double", [[[1]]], "should be the same"),
        (nn.BatchNorm1d(3), "float", [[1, 2]], "should contain 2 elements not 3"),
        (nn.BatchNorm1d(3), "float", [1, 2], "expected 2D or 3D input"),
        (nn.LayerNorm(4), "float", [[1, 2, 3]], r"normalized_shape=\[4\]"),
        (nn.LSTM(4, 4), "float", [[1, 2, 3]], "Expected 4, got 3"),
        (nn.Embedding(3, 3), "float", [[1]], "Long, Int"),
        (nn.Embedding(3, 3), "long", [[7]], "no entry for an index"),
        (nn.Sequential(nn.Identity(), nn.Linear(4, 1)), "float", [[1]], "1x1 and 4x1"),
        (nn.Sequential(nn.Identity(), nn.Linear(4, 1)), "double", [[1] * 4], "same dtype"),
        (nn.Softmax(-1), "long", [[1]], "not implemented for 'Long'"),
        (nn.Flatten(), "float", [1.0], "Dimension out of range"),
    ],
)
async def test_torchs_own_refusals_are_the_callers_to_mend(
    model: nn.Module, dtype: str, values: Any, message: str, tmp_path: Path
) -> None:
    workflow = await loaded(nn.Sequential(model, nn.Identity()), tmp_path)
    with pytest.raises(InvalidInput, match=message) as caught:
        await infer(workflow, dtype, values)
    assert f"dtype '{dtype}'" in str(caught.value)


async def test_torchscripts_refusal_is_told_without_its_traceback(tmp_path: Path) -> None:
    workflow = TorchInferenceWorkflow(script(nn.Linear(2, 1), tmp_path / "m.torch"), use_jit=True)
    await workflow.setup()
    with pytest.raises(InvalidInput, match="1x3 and 2x1") as caught:
        await infer(workflow, "float", [[1, 2, 3]])
    assert "Traceback" not in str(caught.value)


async def test_a_fault_of_the_model_stays_what_it_is(users: Any) -> None:
    with pytest.raises(RuntimeError, match="of the model's own"):
        await infer(await users("Broken"), "float", [1.0])


async def test_full_memory_is_told_apart(users: Any) -> None:
    with pytest.raises(OutOfMemory):
        await infer(await users("Greedy"), "float", [1.0])


# --- batches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["iris", "classifier_69"])
async def test_a_batch_answers_as_single_runs_do(name: str) -> None:
    workflow = TorchInferenceWorkflow(model_source="BUILT_IN", model_args={"name": name})
    await workflow.setup()
    width, dtype = (4, torch.float32) if name == "iris" else (69, torch.float64)
    items = [torch.rand(rows, width, dtype=dtype) for rows in (1, 3, 1, 2)]
    for _ in range(2):  # the first batch is the one that is compared
        for one, output in zip(items, workflow.do_run_batch(items), strict=True):
            torch.testing.assert_close(output, workflow.do_run_model(one))


async def test_items_of_one_shape_run_as_one_once_that_is_proved(users: Any) -> None:
    workflow = await users("CountsRuns")
    batch_of(workflow, [[1, 2]], [[3, 4]], [[5, 6]])
    runs = users.module.CountsRuns.runs
    outputs = batch_of(workflow, [[1, 2]], [[3, 4]], [[5, 6]], [[7, 8], [9, 10]])
    assert users.module.CountsRuns.runs == runs + 1
    assert [output.tolist() for output in outputs] == [
        [[2, 4]], [[6, 8]], [[10, 12]], [[14, 16], [18, 20]],
    ]  # fmt: skip


async def test_items_of_several_shapes_and_dtypes_keep_their_order(users: Any) -> None:
    workflow = await users("CountsRuns")
    items = [
        torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0]]), torch.tensor(3),
        torch.tensor([[4, 5]]), torch.tensor([[6.0, 7.0]]), torch.tensor([8, 9]),
    ]  # fmt: skip
    outputs = workflow.do_run_batch(items)
    for item, output in zip(items, outputs, strict=True):
        assert torch.equal(output, item * 2)


async def test_one_bad_item_fails_alone(tmp_path: Path) -> None:
    workflow = await loaded(nn.Sequential(nn.Embedding(10, 2), nn.Flatten()), tmp_path)
    good, bad, other = batch_of(workflow, [[1]], [[99]], [[2]], dtype="long")
    assert isinstance(bad, InvalidInput)
    assert good.shape == other.shape == (1, 2)
    again = batch_of(workflow, [[1]], [[2]], dtype="long")
    assert [output.shape for output in again] == [(1, 2), (1, 2)]


async def test_outputs_of_several_tensors_are_split_too(users: Any) -> None:
    workflow = await users("Pair")
    for _ in range(2):
        first, second = batch_of(workflow, [[1, 2]], [[3, 4]])
        assert first[0].tolist() == [[2, 3]]
        assert second[1]["double"].tolist() == [[6, 8]]


@pytest.mark.parametrize("items", [([[1, 2]], [[5, 9]]), ([[1, 2]], [[1, 2]])])
async def test_a_model_that_mixes_rows_is_found_out_and_runs_singly(
    items: tuple[Any, ...], users: Any
) -> None:
    """Also by a batch of equal items, which by itself would not show it."""
    workflow = await users("Mixing")
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            outputs = batch_of(workflow, *items)
            assert [output.tolist() for output in outputs] == [[[0, 0]], [[0, 0]]]
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("batching_off", "warning")]
    assert "depends on the other rows" in logs[0]["reason"]


async def test_a_model_without_rows_in_its_output_runs_singly(users: Any) -> None:
    workflow = await users("Total")
    with structlog.testing.capture_logs() as logs:
        outputs = batch_of(workflow, [[1, 2]], [[3, 4]])
    assert [output.item() for output in outputs] == [3, 7]
    assert "rows of its input" in logs[0]["reason"]


async def test_a_program_exported_for_one_row_runs_singly(tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    program = torch.export.export(nn.Linear(2, 1).eval(), (torch.zeros(1, 2),))
    torch.export.save(program, path)
    workflow = TorchInferenceWorkflow(path, allow_pickle=True)
    await workflow.setup()
    with structlog.testing.capture_logs() as logs:
        outputs = batch_of(workflow, [[1, 2]], [[3, 4]])
    assert [output.shape for output in outputs] == [(1, 1), (1, 1)]
    assert "one by one only" in logs[0]["reason"]


# --- contracts --------------------------------------------------------------------------------


def request(array: np.ndarray[Any, Any], **options: Any) -> bytes:
    return TensorRequest(Vector(array, DataType.from_numpy(array.dtype)), **options).encode()


async def test_a_contract_gets_the_values_that_a_web_client_gets() -> None:
    workflow = TorchInferenceWorkflow(**CLASSIFIER)
    await workflow.setup()
    row = np.random.default_rng(0).normal(size=(1, 69))
    web = await workflow.inference({"dtype": "double", "values": row.tolist()})
    answer = await onchain(workflow, request(row))
    np.testing.assert_array_equal(answer.values, web.array)
    legacy = await onchain(workflow, encode_legacy(row))
    np.testing.assert_allclose(legacy.values, web.array, rtol=1e-12)


async def test_decimals_of_a_contract_become_the_models_own_floats() -> None:
    """Fixed point says nothing of float or double, and `int256[]` has no other form."""
    workflow = TorchInferenceWorkflow(**IRIS)
    await workflow.setup()
    answer = await onchain(workflow, encode_legacy(np.array([5.1, 3.5, 1.4, 0.2])))
    assert answer.dtype is DataType.FLOAT32
    assert answer.values.argmax() == 0
    vector = Vector(np.array([[5.1, 3.5, 1.4, 0.2]]), DataType.FLOAT64, Arithmetic.FIXED_POINT)
    assert (await onchain(workflow, TensorRequest(vector).encode())).values.argmax() == 0


async def test_ieee_floats_of_a_contract_keep_their_dtype() -> None:
    workflow = TorchInferenceWorkflow(**IRIS)
    await workflow.setup()
    with pytest.raises(InvalidInput, match="expected 'float'; given 'double'"):
        await onchain(workflow, request(np.ones((1, 4))))


async def test_a_bfloat16_answer_reaches_a_contract_as_float32(tmp_path: Path) -> None:
    workflow = await loaded(nn.Sequential(nn.Linear(2, 1)).bfloat16(), tmp_path)
    vector = Vector(np.ones((1, 2)), DataType.FLOAT64, Arithmetic.FIXED_POINT)
    answer = await onchain(workflow, TensorRequest(vector).encode())
    assert answer.dtype is DataType.FLOAT32


@pytest.mark.parametrize(
    "model_id", ["huggingface/owner/name:model.torch", "owner/name", "model.torch"]
)
def test_a_request_may_name_the_model_in_the_ecosystems_forms(model_id: str) -> None:
    workflow = TorchInferenceWorkflow("owner/name")
    assert workflow.supports_model(model_id)
    workflow.decode_onchain(request(np.ones((1, 4)), model_id=model_id))


def test_a_request_for_another_model_is_refused_by_name() -> None:
    with pytest.raises(NotFound, match="huggingface/owner/other"):
        TorchInferenceWorkflow("owner/name").decode_onchain(
            request(np.ones((1, 4)), model_id="huggingface/owner/other")
        )
