"""The tensors that a caller sends to a model with several inputs, by name."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import JsonSchemaValue

from ml.workflows.inference.tensor_input import TakenTensor, TensorInput

__all__ = ["TensorsInput", "is_tensors_form", "tensors_schema"]


class TensorsInput(BaseModel):
    """`{"inputs": {name: {"dtype": …, "values": …}, …}}`; other keys are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    inputs: dict[str, TensorInput] = Field(
        description="A tensor for each input of the model", min_length=1
    )


def is_tensors_form(data: object) -> bool:
    """Return whether the `data` of a request names its tensors."""
    return isinstance(data, dict) and "inputs" in data and not data.keys() & {"dtype", "values"}


def tensors_schema(taken: Mapping[str, TakenTensor]) -> JsonSchemaValue:
    """Return the JSON Schema of the tensors that a model takes by these names."""
    tensor = TensorInput.model_json_schema()
    del tensor["description"]  # which would stand at each of them
    named = {name: {**one.narrow(tensor), "title": name} for name, one in taken.items()}
    inputs = {"type": "object", "title": "Inputs", "properties": named, "required": list(named)}
    whole = {"type": "object", "title": TensorsInput.__name__, "required": ["inputs"]}
    return {**whole, "properties": {"inputs": {**inputs, "additionalProperties": False}}}
