"""The body of `POST /train`, the query-based way to ask for a fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ml.errors import UnprocessableInput, fault_lines
from ml.finetuning.request import FinetuningRequest, QueryParams, TrainingParameters

__all__ = ["TrainRequest"]

#: The document's own names in `training_params`.
_NAMES = {"num_epochs": "num_train_epochs", "batch_size": "per_device_train_batch_size"}


class TrainRequest(BaseModel):
    """A model, a name for what comes of it, and the query whose rows are the training data."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "model_name": "SmolLM2-135M-Instruct",
                    "output_dir": "my-model",
                    "query_id": "my-query",
                }
            ]
        },
    )

    model_name: str
    output_dir: str
    training_params: dict[str, Any] = Field(
        default={}, description="num_epochs, learning_rate, batch_size, or any of /finetune's"
    )
    query_id: str | None = None
    query_params: QueryParams | None = None
    dataset_name: str | None = None
    column_map: dict[str, str] = {}

    def finetuning_request(self, faults: Sequence[str] = ()) -> FinetuningRequest:
        """Return what it asks for; without `max_steps` the epochs decide.

        Raises `UnprocessableInput` naming the parameters at fault, behind other `faults`.
        """
        given = {_NAMES.get(name, name): value for name, value in self.training_params.items()}
        if "batch_size" in self.training_params:
            given = {"gradient_accumulation_steps": 1, **given}  # a batch is then what it says
        documented = {new: old for old, new in _NAMES.items() if old in self.training_params}
        names = {name: f"training_params.{documented.get(name, name)}" for name in given}
        given = {"max_steps": -1, **given}
        own = self.model_dump(exclude={"training_params"}, exclude_unset=True)
        lines = [
            *faults,
            *_faults(TrainingParameters, given, names),
            *_faults(FinetuningRequest, own, {}),
        ]
        if lines:
            raise UnprocessableInput("; ".join(lines))
        return FinetuningRequest(**given, **own)


def _faults(
    model: type[BaseModel], given: Mapping[str, Any], names: Mapping[str, str]
) -> list[str]:
    try:
        model(**given)
    except ValidationError as error:
        return fault_lines(error, names=names)
    return []
