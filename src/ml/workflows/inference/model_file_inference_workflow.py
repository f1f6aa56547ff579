"""Answers tensors with a model file of ONNX or of another library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np
from pydantic.json_schema import JsonSchemaValue

from ml.errors import ConfigurationError, InvalidInput, OutOfMemory, ServiceError
from ml.json_text import JsonObject
from ml.models.source import HubSource, LocalSource, ModelSource
from ml.models.tensor_model import Array, TensorModel, TensorSpec
from ml.workflows.inference.base_classic_ml_inference_workflow import (
    BaseClassicMLInferenceWorkflow,
)
from ml.workflows.inference.file_arguments import read_file_arguments
from ml.workflows.inference.row_batching import RowBatching
from ml.workflows.inference.tensor_input import (
    OnchainTensorInput,
    TakenTensor,
    TensorInput,
    dtype_name,
)
from ml.workflows.inference.tensor_output import TensorOutput
from ml.workflows.inference.tensors_input import TensorsInput, is_tensors_form, tensors_schema
from ml.workflows.inference.workflow_input import validated

__all__ = ["ModelFileInferenceWorkflow"]

Arrays = tuple[Array, ...]


class ModelFileInferenceWorkflow(BaseClassicMLInferenceWorkflow):
    """Answers tensors with a model file of the library that its ending, or `engine`, names.

    The model is named as for `TorchInferenceWorkflow`; in a repository or a folder its file is
    `filename`, `model.onnx` by default:

        ModelFileInferenceWorkflow("folder/model.onnx")
        ModelFileInferenceWorkflow(repo_id="owner/name", filename="model.onnx")

    A model with one input takes a tensor, one with several `{"inputs": {name: tensor, …}}`. One
    output is answered as a tensor, several as an object of them; `outputs` names those that are
    answered. The other arguments are those of `FileArguments`. No file runs code of its own.

    Raises `ConfigurationError` for arguments that cannot work; the model is loaded by `setup()`,
    which raises it for a file that is no such model.
    """

    about = (
        "Answers numbers with a model file of ONNX, OpenVINO, scikit-learn, XGBoost, LightGBM or "
        "CatBoost."
    )

    def __init__(self, model: str | PathLike[str] | None = None, **arguments: object) -> None:
        super().__init__()
        read = read_file_arguments({"model": model, **arguments})
        self._arguments, self.source, self._engine_name, self._engine = read
        self._model: TensorModel

    @property
    def library(self) -> str:
        """The one that runs the file."""
        return self._engine.module

    def model_bytes(self) -> int:
        """Return the size of the model's files."""
        return sum(path.stat().st_size for path in self._fetch())

    @property
    def runs_alike(self) -> bool:
        """Whether the hooks are these and the model says so of itself."""
        return type(self) is ModelFileInferenceWorkflow and self._model.runs_alike

    def input_size(self, preprocessed_data: Arrays) -> int:
        """Return how many elements the arrays have."""
        return sum(array.size for array in preprocessed_data)

    def supports_model(self, model_id: str) -> bool:
        """Return whether an id names this model: its repository or its file."""
        return self.source.answers_for(model_id)

    def compute_capability(self) -> JsonObject:
        """Return this workflow's entry in the `/service-resources` document."""
        own = {"models": [self.source.model_id], "inference_engine": self._engine_name}
        return {**super().compute_capability(), **own}

    def taken_tensor(self) -> TakenTensor | None:
        """Return what the model takes, once it is loaded and if that is one tensor."""
        taken = list(self._taken().values())
        return taken[0] if len(taken) == 1 else None

    def input_schema(self) -> JsonSchemaValue | None:
        """Return the JSON Schema of the tensor, or of the tensors by name."""
        taken = self._taken()
        return super().input_schema() if len(taken) < 2 else tensors_schema(taken)

    def example_input(self) -> object:
        """Return zeros of the model's shapes, None where one is not known."""
        taken = self._taken()
        if len(taken) < 2:
            return super().example_input()
        examples = {name: one.example() for name, one in taken.items()}
        return None if None in examples.values() else {"inputs": examples}

    @property
    def has_onchain_input(self) -> bool:
        """Whether contracts can ask: they send one tensor."""
        return super().has_onchain_input and len(self._taken()) < 2

    def do_setup(self) -> None:
        """Load the model."""
        path, *_ = self._fetch()
        self._model = self._load(path)
        wanted = self._arguments.outputs or tuple(self._model.outputs)
        if unknown := [name for name in wanted if name not in self._model.outputs]:
            there = ", ".join(self._model.outputs)
            raise ConfigurationError(f"outputs: {path.name} has no {unknown[0]!r}; it has {there}")
        self._outputs = [self._model.outputs.index(name) for name in wanted]
        self._batching = RowBatching(
            self.do_run_model,
            np,
            model=str(self.source),
            may_batch=all(spec.has_rows for spec in self._model.inputs),
        )

    def do_close(self) -> None:
        """Let go of the model and its memory."""
        del self._model, self._batching

    def decode_offchain(self, data: object) -> TensorInput | TensorsInput:
        """Return the tensor, or the tensors by name, of an OFFCHAIN request."""
        if is_tensors_form(data):
            return validated(TensorsInput, data)
        return validated(TensorInput, data)

    def do_preprocessing(self, input_data: object) -> Arrays:
        """Return the arrays of an input, in the model's order.

        Raises `InvalidInput` that says expected and given for a name, a dtype or a shape that the
        model does not take. Decimals from a contract become floats of the model's own dtype.
        """
        if isinstance(input_data, TensorInput | TensorsInput):
            given = input_data
        else:
            given = self.decode_offchain(input_data)
        specs = self._model.inputs
        if isinstance(given, TensorsInput):
            _require_names(given.inputs, specs)
            named = [(spec, given.inputs[spec.name]) for spec in specs]
            return tuple(_array(*pair, f"inputs.{pair[0].name}.") for pair in named)
        if len(specs) > 1:
            names = ", ".join(f'"{spec.name}": …' for spec in specs)
            raise InvalidInput(
                f"inputs: the model takes {len(specs)} tensors, as "
                f'{{"inputs": {{{names}}}}}; given one without a name'
            )
        return (_array(specs[0], given, ""),)

    def do_run_model(self, preprocessed_data: Arrays) -> list[Array]:
        """Return the model's outputs for its inputs, those that are answered.

        Raises `InvalidInput` for what the model does not take, and `OutOfMemory`.
        """
        try:
            outputs = self._model.run(preprocessed_data)
        except MemoryError as error:
            raise OutOfMemory from error
        except self._model.faults as error:
            raise _explained(error) from error
        return [outputs[position] for position in self._outputs]

    def do_run_batch(self, batch: list[Arrays]) -> list[object]:
        """Return the outputs for several inputs, or the exceptions that these alone fail with.

        Those that differ in their number of rows only run as one, where the model takes any number
        of rows and is seen to answer each by itself.
        """
        return self._batching.run_all(batch)

    def do_postprocessing(self, input_data: object, output_data: list[Array]) -> object:
        """Return the one output, or an object of several, each with its labels."""
        names = [self._model.outputs[position] for position in self._outputs]
        answers = [self._answer(*pair) for pair in zip(names, output_data, strict=True)]
        return answers[0] if len(answers) == 1 else dict(zip(names, answers, strict=True))

    def _taken(self) -> dict[str, TakenTensor]:
        """Return what the model takes by its names, once it is loaded."""
        specs = self._model.inputs if self.is_setup else ()
        return {spec.name: _taken_by(spec) for spec in specs}

    def _fetch(self) -> list[Path]:
        path = self.source.fetch()
        beside = (_beside(self.source, path, name) for name in self._engine.beside(path))
        return [path, *(source.fetch() for source in beside)]

    def _load(self, path: Path) -> TensorModel:
        mapped = self._engine.load_mapped if self._arguments.mmap else None
        load = mapped or self._engine.load
        try:
            return load(path, self._arguments.safe_classes)
        except (ImportError, OSError) as error:  # such as a library of the system that is missing
            raise ConfigurationError(
                f"{path.name}: {self._engine.module} cannot load it: {error}"
            ) from error

    def _answer(self, name: str, array: Array) -> object:
        if array.dtype.kind in "OU":  # texts, which no tensor holds
            return array.tolist()
        return TensorOutput.of(array, labels=self._model.labels(name))


def _taken_by(spec: TensorSpec) -> TakenTensor:
    return TakenTensor(tuple(dtype_name(dtype) for dtype in spec.dtypes), spec.shape)


def _beside(source: ModelSource, path: Path, name: str) -> HubSource | LocalSource:
    """Return the source of a file that lies beside a model's."""
    if isinstance(source, HubSource):
        folder, slash, _ = source.filename.rpartition("/")
        return replace(source, filename=f"{folder}{slash}{name}")
    return LocalSource(path.parent / name, "")


def _require_names(given: Mapping[str, TensorInput], specs: Sequence[TensorSpec]) -> None:
    names = [spec.name for spec in specs]
    if given.keys() != set(names):
        raise InvalidInput(
            f"inputs: expected {', '.join(names)}; given {', '.join(sorted(given))[:300]}"
        )


def _array(spec: TensorSpec, given: TensorInput, where: str) -> Array:
    values: Array = given.values
    floats = [dtype for dtype in spec.dtypes if dtype.kind == "f"]
    if values.dtype not in spec.dtypes or given.dtype == "bfloat16":
        if not (isinstance(given, OnchainTensorInput) and given.is_fixed_point and floats):
            due = " or ".join(repr(dtype_name(dtype)) for dtype in spec.dtypes)
            raise InvalidInput(f"{where}dtype: expected {due}; given {given.dtype!r}")
        values = values.astype(floats[0])
    if not _fits(values.shape, spec.shape):
        due = ", ".join("any" if size is None else str(size) for size in spec.shape or ())
        shape = list(values.shape)
        raise InvalidInput(f"{where}values: expected shape [{due}]; given shape {shape}")
    return values


def _fits(shape: tuple[int, ...], due: tuple[int | None, ...] | None) -> bool:
    return due is None or (
        len(shape) == len(due)
        and all(want in (None, size) for size, want in zip(shape, due, strict=True))
    )


def _explained(error: Exception) -> ServiceError:
    """Return what a failed run means: a graph that does not change fails by what it is given."""
    text = str(error)
    if "allocate" in text or "bad_alloc" in text:
        return OutOfMemory()
    reason = next((line.strip() for line in text.splitlines() if line.strip()), "")[:300]
    return InvalidInput(f"values: the model does not take this input: {reason}")
