"""The base of workflows that answer a tensor with a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic.json_schema import JsonSchemaValue

from ml.errors import InvalidInput, NotFound, UnprocessableOutput
from ml.infernet.tensor_request import decode_torch_input
from ml.infernet.vector import encode_vector
from ml.json_text import JsonObject
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow
from ml.workflows.inference.body_formats.body_format import BodyFormat
from ml.workflows.inference.body_formats.installed import tensor_formats
from ml.workflows.inference.tensor_input import OnchainTensorInput, TakenTensor, TensorInput
from ml.workflows.inference.tensor_output import TensorOutput, json_form, require_finite

__all__ = ["BaseClassicMLInferenceWorkflow"]


class BaseClassicMLInferenceWorkflow(BaseInferenceWorkflow):
    """Answers tensors with a model of any library; `do_run_model` takes and returns numpy arrays.

        class Double(BaseClassicMLInferenceWorkflow):
            def do_run_model(self, array):
                return 2 * array

    OFFCHAIN, the input is `{"dtype": …, "values": nested lists}` and the output
    `{"dtype": …, "shape": […], "values": nested lists}`, a legal input of the next such container.
    A model that returns a tuple, a list or a dict of arrays is answered with a list or an object of
    them. CHAIN, the input is a tensor request or the legacy `int256[]`, and the output a vector.
    """

    input_model = TensorInput
    #: The name of the model among several of one service, which its requests may have.
    known_as = ""

    @property
    def library(self) -> str | None:
        """The module that `do_setup` imports; a service of several models imports it first."""
        return None

    def model_bytes(self) -> int:
        """Return the bytes that the model counts with where several share a limit, 0 by default.

        Asked in a thread before `setup()`; a file of the hub is fetched for it.
        """
        return 0

    def do_preprocessing(self, input_data: Any) -> Any:
        """Return the array of a tensor; scripts may give a dict with `dtype` and `values`."""
        if isinstance(input_data, TensorInput):
            return input_data.values
        return self.decode_offchain(input_data).values

    def do_postprocessing(self, input_data: Any, output_data: Any) -> object:
        """Return the model's output with each array as a `TensorOutput`."""
        return self._tensors(output_data)

    def tensor_of(self, value: object) -> TensorOutput | None:
        """Return one tensor of the model's library, None if it is not one."""
        if isinstance(value, np.ndarray | np.generic) or _is_nested_numbers(value):
            return TensorOutput.of(np.asarray(value))
        return None

    def encode_offchain(self, output: Any, input_data: Any) -> object:
        """Return the output with each tensor in its JSON form.

        Raises `UnprocessableOutput` for NaN and infinities, which JSON cannot hold; a vector for a
        contract can.
        """
        require_finite(output)
        return json_form(output)

    def decode_onchain(self, data: bytes) -> OnchainTensorInput:
        """Return the tensor of a tensor request or of a legacy `int256[]`: one row, double.

        Raises `InvalidInput` for anything else and `NotFound` for a request that names a model
        other than this one.
        """
        request = decode_torch_input(data)
        named = request.model_id
        if named and named != self.known_as and not self.supports_model(named):
            raise NotFound(f"model_id: {named[:200]!r} is not served here")
        return OnchainTensorInput.from_request(request)

    def encode_onchain_input(self, data: object) -> bytes:
        """Return a tensor request; raises `InvalidInput` also for bfloat16, which vectors lack."""
        tensor = self.decode_offchain(data)
        if not isinstance(tensor, TensorInput):
            raise InvalidInput("a contract sends one tensor, without a name")
        return tensor.request().encode()

    @property
    def body_formats(self) -> Mapping[bytes, BodyFormat]:
        """The forms of bytes that a tensor may have: those that the installed packages read."""
        return tensor_formats()

    def taken_tensor(self) -> TakenTensor | None:
        """Return the tensor that the model takes; None where, or as long as, that is not known."""
        return None

    def input_schema(self) -> JsonSchemaValue | None:
        """Return the JSON Schema of a tensor, with the model's own dtype and shape if known."""
        schema, taken = super().input_schema(), self.taken_tensor()
        return schema if schema is None or taken is None else taken.narrow(schema)

    def example_input(self) -> object:
        """Return a tensor of zeros of the model's shape, None where that is not known."""
        taken = self.taken_tensor()
        return None if taken is None else taken.example()

    def encode_onchain(self, output: Any, input_data: Any) -> bytes:
        """Return a tensor as a vector, in the arithmetic that the request asked for, IEEE if none.

        Raises `UnprocessableOutput` for several tensors and for what does not fit fixed point.
        """
        if not isinstance(output, TensorOutput):
            if isinstance(output, list | dict):
                raise UnprocessableOutput("A contract gets one tensor; this model answers several.")
            return super().encode_onchain(output, input_data)
        if not isinstance(input_data, OnchainTensorInput):
            return encode_vector(output.array)
        return encode_vector(
            output.array,
            arithmetic=input_data.output_arithmetic,
            decimals=input_data.output_decimals,
        )

    def compute_capability(self) -> JsonObject:
        """Return this workflow's entry in the `/service-resources` document."""
        tasks = ["tensor_inference", *(["proof"] if self.can_prove else [])]
        return {"id": "ml", "type": "custom", "task": tasks}

    def _tensors(self, value: object) -> object:
        tensor = self.tensor_of(value)
        if tensor is not None:
            return tensor
        if isinstance(value, Mapping):
            return {name: self._tensors(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._tensors(item) for item in value]
        return value


def _is_nested_numbers(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(v, bool | int | float) or _is_nested_numbers(v) for v in value)
    )
