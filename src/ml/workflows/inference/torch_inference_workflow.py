"""Answers tensors with a PyTorch model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from ml.errors import ConfigurationError, InvalidInput
from ml.json_text import JsonObject
from ml.models.tensor_model import Array
from ml.models.torch_file import TorchFile
from ml.proving.model_proofs import ModelProof
from ml.workflows.inference.base_classic_ml_inference_workflow import (
    BaseClassicMLInferenceWorkflow,
)
from ml.workflows.inference.row_batching import RowBatching
from ml.workflows.inference.tensor_input import (
    OnchainTensorInput,
    TakenTensor,
    TensorInput,
)
from ml.workflows.inference.tensor_output import TensorOutput, tensors_of
from ml.workflows.inference.torch_arguments import read_arguments
from ml.workflows.inference.torch_faults import explain, torch_dtype_name

if TYPE_CHECKING:
    import torch

__all__ = ["TorchInferenceWorkflow"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TensorProof:
    """The proof of a model's answer."""

    made: ModelProof
    #: Whether the answer is one tensor; several stand under `outputs` beside the proof.
    is_of_one: bool

    @property
    def calldata(self) -> bytes:
        """What the artifact's verifier is called with, `verifyProof(bytes,uint256[])`."""
        return self.made.proved.calldata

    def answer_with(self, answer: object) -> JsonObject:
        """Return the usual answer with `proof` in it."""
        proof = self.made.document()
        if self.is_of_one and isinstance(answer, Mapping):
            return {**answer, "proof": proof}
        return {"outputs": answer, "proof": proof}


class TorchInferenceWorkflow(BaseClassicMLInferenceWorkflow):
    """Answers tensors with a model file of PyTorch, on a GPU where there is one.

    The model is named in one of these forms; `filename` is `TORCH_MODEL_FILE_NAME`, or
    `model.torch`, where it is not given:

        TorchInferenceWorkflow("owner/name")
        TorchInferenceWorkflow("folder/model.torch")
        TorchInferenceWorkflow(repo_id="owner/name", filename="model.torch", revision="main")
        TorchInferenceWorkflow(path="folder/model.torch")
        TorchInferenceWorkflow(
            model_source="HUGGINGFACE_HUB", model_args={"repo_id": "owner/name"}
        )
        TorchInferenceWorkflow(model_source="LOCAL", model_args={"path": "folder/model.torch"})
        TorchInferenceWorkflow(model_source="BUILT_IN", model_args={"name": "iris"})

    The others are those of `TorchArguments`. `use_jit` is by default `USE_JIT`; `.pt2` files need
    `allow_pickle`. With a `proof_artifact` of this model its answers can be proved.

    Raises `ConfigurationError` for arguments that cannot work; the model is loaded by `setup()`,
    which raises it for an artifact that cannot be used or is of another model.
    """

    extra = "classic"
    about = (
        "Answers numbers with a trained model: a table of numbers goes in, the "
        "model's result comes out."
    )

    def __init__(self, model: str | PathLike[str] | None = None, **arguments: object) -> None:
        super().__init__()
        checked, self.source = read_arguments({"model": model, **arguments})
        self._file = TorchFile(
            use_jit=checked.use_jit,
            safe_classes=checked.safe_classes,
            allow_pickle=checked.allow_pickle,
            mmap=checked.mmap,
            model_class=checked.model_class,
            model_class_args=checked.model_class_args,
        )
        self._device_name = checked.device
        self._proofs = checked.proofs()
        self._first_layer: torch.nn.Linear | None = None
        self._is_plain_chain = False
        self._float_dtype: torch.dtype | None = None

    @property
    def can_prove(self) -> bool:
        """Whether there is an artifact, or a subclass makes proofs of its own."""
        hook = type(self).do_generate_proof
        return self._proofs is not None or hook is not TorchInferenceWorkflow.do_generate_proof

    @property
    def library(self) -> str:
        """PyTorch."""
        return "torch"

    @property
    def shared_imports(self) -> Sequence[str]:
        """PyTorch, and this module."""
        return ("torch", __name__)

    def model_bytes(self) -> int:
        """Return the size of the model's file."""
        return self.source.fetch().stat().st_size

    @property
    def runs_alike(self) -> bool:
        """Whether the hooks are these and the model is a plain chain of torch's own layers."""
        return type(self) is TorchInferenceWorkflow and self._is_plain_chain

    def input_size(self, preprocessed_data: torch.Tensor) -> int:
        """Return how many elements a tensor has."""
        return preprocessed_data.numel()

    def supports_model(self, model_id: str) -> bool:
        """Return whether an id names this model: its repository, its file or its built-in name."""
        return self.source.answers_for(model_id)

    def compute_capability(self) -> JsonObject:
        """Return this workflow's entry in the `/service-resources` document."""
        own = {"type": "torch", "models": [self.source.model_id], "inference_engine": "torch"}
        return {**super().compute_capability(), **own}

    def taken_tensor(self) -> TakenTensor | None:
        """Return what the first layer takes, where that is known."""
        layer = self._first_layer
        if layer is None:
            return None
        name = torch_dtype_name(layer.weight.dtype)
        return TakenTensor((name,), (None, layer.in_features))

    def do_setup(self) -> None:
        """Load the model and, if its input's width is known, run it once: first runs are slow.

        With an artifact, its process is started and it is compared with the model.
        """
        self._device = _find_device(self._device_name)
        self._model = self._file.load(self.source.fetch(), self._device)
        self._first_layer = _find_first_layer(self._model)
        self._is_plain_chain = _is_plain_chain(self._model)
        floats = (p.dtype for p in self._model.parameters() if p.dtype.is_floating_point)
        self._float_dtype = next(floats, None)
        self._batching = self._new_batching()
        self._warm_up()
        if self._proofs is not None:
            self._proofs.setup(self._answer_to)

    def do_close(self) -> None:
        """Let go of the model and its memory, and end the process that proves."""
        if self._proofs is not None:
            self._proofs.close()
        del self._model
        self._first_layer = None

    def do_preprocessing(self, input_data: Any) -> torch.Tensor:
        """Return the tensor of an input, on the CPU.

        Raises `InvalidInput` that says expected and given where a first layer is known to want
        another width or dtype. Decimals from a contract become floats of the model's own dtype.
        """
        import torch

        if isinstance(input_data, TensorInput):
            given = input_data
        else:
            given = self.decode_offchain(input_data)
        values = given.values
        if not (values.flags.writeable and values.flags.c_contiguous):
            values = np.array(values, order="C")  # torch warns of arrays that it cannot write to
        tensor = torch.from_numpy(values)
        if given.dtype == "bfloat16":
            tensor = tensor.bfloat16()
        if isinstance(given, OnchainTensorInput) and given.is_fixed_point:
            tensor = tensor.to(self._float_dtype or tensor.dtype)
        self._check_against_first_layer(tensor)
        return tensor

    def do_run_model(self, preprocessed_data: torch.Tensor) -> object:
        """Return the model's output for one tensor: a tensor, or a tuple, list or dict of them.

        Raises `InvalidInput` for a shape or dtype that the model does not take, and `OutOfMemory`.
        """
        try:
            return self._forward(preprocessed_data)
        except Exception as error:
            explained = explain(error, preprocessed_data)
            if explained is None:
                raise
            raise explained from error

    def do_run_batch(self, batch: list[torch.Tensor]) -> list[object]:
        """Return the outputs for several tensors, or the exceptions that these alone fail with.

        Tensors of one dtype and of one shape but for the first dimension run as one. The first
        such run is compared with single runs: if the model mixes rows, all run singly from then on.
        """
        return self._batching.run_all([(tensor,) for tensor in batch])

    def do_generate_proof(self, input_data: Any, output: Any) -> object:
        """Return the circuit's answer with its proof, and how far it is from the model's.

        Raises `InvalidInput` for an input that the circuit does not take, and
        `UnprocessableOutput` where its output is too far from the model's.
        """
        given = self.tensor_of(self.preprocessed())
        if self._proofs is None or given is None:
            raise InvalidInput("proofs are made for models that take one tensor")
        made = self._proofs.prove(given.dtype, given.array, tensors_of(output))
        return TensorProof(made, isinstance(output, TensorOutput))

    def tensor_of(self, value: object) -> TensorOutput | None:
        """Return a tensor of torch, or what the base takes for one."""
        import torch

        if not isinstance(value, torch.Tensor):
            return super().tensor_of(value)
        name = torch_dtype_name(value.dtype)
        value = value.detach().to("cpu").resolve_conj().resolve_neg()
        return TensorOutput.of((value.float() if name == "bfloat16" else value).numpy(), name)

    def _answer_to(self, dtype: str, values: Array) -> list[Array]:
        import torch

        input_data = TensorInput.model_validate({"dtype": dtype, "values": values})
        tensor = torch.from_numpy(input_data.values)
        self._check_against_first_layer(tensor)
        return tensors_of(self.do_postprocessing(input_data, self.do_run_model(tensor)))

    def _forward(self, tensor: torch.Tensor) -> object:
        import torch

        with torch.inference_mode():
            return _to_cpu(self._model(tensor.to(self._device)))

    def _warm_up(self) -> None:
        import torch

        if self._first_layer is None:
            return
        weight = self._first_layer.weight
        try:
            self._forward(torch.zeros(1, weight.shape[1], dtype=weight.dtype))
        except Exception as error:  # it may want more dimensions; requests will tell
            log.warning("warm_up_failed", model=str(self.source), error=type(error).__name__)

    def _check_against_first_layer(self, tensor: torch.Tensor) -> None:
        if self._first_layer is None:
            return
        width, due = self._first_layer.in_features, self._first_layer.weight.dtype
        if tensor.ndim == 0 or tensor.shape[-1] != width:
            raise InvalidInput(
                f"values: expected a last dimension of {width}; given shape {list(tensor.shape)}"
            )
        if tensor.dtype != due:
            expected, given = torch_dtype_name(due), torch_dtype_name(tensor.dtype)
            raise InvalidInput(f"dtype: expected {expected!r}; given {given!r}")

    def _new_batching(self) -> RowBatching:
        import torch

        return RowBatching(lambda item: self.do_run_model(item[0]), torch, model=str(self.source))


def _find_device(name: str | None) -> torch.device:
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(f"device: {name!r} cannot be used: {reason}") from error
    return device


def _find_first_layer(model: torch.nn.Module) -> torch.nn.Linear | None:
    """Return the linear layer that a plain `nn.Sequential` begins with.

    Only exact types count: a subclass may do something else with its input.
    """
    from torch import nn

    layer = model
    while type(layer) is nn.Sequential and len(layer):
        layer = layer[0]
    return layer if type(layer) is nn.Linear else None


def _is_plain_chain(model: torch.nn.Module) -> bool:
    """Return whether nothing in a model can depend on the values that it is given."""
    from torch import nn

    if type(model) is nn.Sequential:
        return all(map(_is_plain_chain, model))
    return type(model).__module__.startswith("torch.nn.modules.")


def _to_cpu(output: object) -> object:
    import torch

    if isinstance(output, torch.Tensor):
        return output.to("cpu")
    if isinstance(output, Mapping):
        return {name: _to_cpu(value) for name, value in output.items()}
    if isinstance(output, list | tuple):
        return [_to_cpu(value) for value in output]
    return output
