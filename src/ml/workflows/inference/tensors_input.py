"""The tensors that a caller sends to a model with several inputs, by name."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ml.workflows.inference.tensor_input import TensorInput

__all__ = ["TensorsInput", "is_tensors_form"]


class TensorsInput(BaseModel):
    """`{"inputs": {name: {"dtype": …, "values": …}, …}}`; other keys are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    inputs: dict[str, TensorInput] = Field(
        description="A tensor for each input of the model", min_length=1
    )


def is_tensors_form(data: Any) -> bool:
    """Return whether the `data` of a request names its tensors."""
    return isinstance(data, dict) and "inputs" in data and not data.keys() & {"dtype", "values"}
