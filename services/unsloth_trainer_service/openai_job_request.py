"""What OpenAI's clients ask for: the body of `POST /v1/fine_tuning/jobs`.

Source: OpenAI's API reference, "Create fine-tuning job".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from ml.errors import InvalidInput, ServiceError, UnprocessableInput, unknown_fields
from ml.finetuning.data.report import UnusableData
from ml.finetuning.request import FinetuningRequest, Metadata, TrainingParameters
from ml.finetuning.request_body import read_request
from ml.serving.client_request import ClientRequest

__all__ = ["HYPERPARAMETERS", "LEARNING_RATE", "JobRequest", "in_openais_names"]

#: What a learning_rate_multiplier multiplies.
LEARNING_RATE: float = TrainingParameters.model_fields["learning_rate"].default
#: Our names of OpenAI's hyperparameters. A batch is then what it says: gradients of one batch, of
#: per_device_train_batch_size examples, make a step.
HYPERPARAMETERS = {
    "n_epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size",
    "learning_rate_multiplier": "learning_rate",
}
#: OpenAI's name of each of our fields that a fault may be in.
_NAMES = {
    **{name: f"hyperparameters.{name}" for name in FinetuningRequest.model_fields},
    **{ours: f"hyperparameters.{theirs}" for theirs, ours in HYPERPARAMETERS.items()},
    "model_name": "model",
    "dataset_name": "training_file",
    "validation_dataset_name": "validation_file",
    "output_dir": "suffix",
    "seed": "seed",
    "metadata": "metadata",
}
#: A field's name at the beginning of one of the faults in a description.
_NAMED = re.compile(r"(^|; )([a-z_]+)(?=[.:])")
#: Fields that another part of the request has.
_NOT_HYPERPARAMETERS = {
    *("model_name", "output_dir", "dataset_name", "validation_dataset_name"),
    *("query_id", "query_params", "metadata"),
}


@contextmanager
def in_openais_names() -> Iterator[None]:
    """Raise what is wrong with a request as OpenAI does: a 400 with OpenAI's name of the field."""
    try:
        yield
    except UnusableData as error:
        raise InvalidInput(_renamed(error, default="training_file")) from None
    except UnprocessableInput as error:
        raise InvalidInput(_renamed(error)) from None
    except ServiceError as error:
        error.description = _renamed(error)
        raise


def _renamed(error: ServiceError, default: str | None = None) -> str:
    description = error.description
    if default is not None and not _NAMED.match(description):
        description = f"{default}: {description}"
    return _NAMED.sub(lambda found: found[1] + _NAMES.get(found[2], found[2]), description)


def _supervised(value: Any) -> Any:
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind != "supervised":
        raise ValueError(f"only supervised fine-tuning is done here, not {kind[:100]!r}")
    return value


class Supervised(ClientRequest):
    """How the supervised method trains."""

    hyperparameters: dict[str, Any] | None = None


class Method(ClientRequest):
    """How to fine-tune."""

    neutral: ClassVar = {"dpo": (), "reinforcement": ()}

    type: Literal["supervised"]
    supervised: Supervised | None = None


class JobRequest(ClientRequest):
    """The body of `POST /v1/fine_tuning/jobs`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "SmolLM2-135M-Instruct", "training_file": "file-0123"}]
        }
    )

    neutral: ClassVar = {"integrations": ([],)}

    model: str
    training_file: str = Field(description="The id of an uploaded file, or a data set's name")
    validation_file: str | None = Field(default=None, description="Likewise")
    method: Annotated[Method | None, BeforeValidator(_supervised)] = None
    hyperparameters: dict[str, Any] | None = Field(
        default=None,
        description="The older place for those of the method: n_epochs, batch_size, "
        "learning_rate_multiplier, or any of /finetune's",
    )
    suffix: str | None = Field(default=None, min_length=1, max_length=64)
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    metadata: Metadata | None = None

    def finetuning_request(self, job_id: str) -> FinetuningRequest:
        """Return what it asks for; "auto" leaves a parameter's default."""
        given = self._given()
        fields: dict[str, Any] = {"max_steps": -1}
        for theirs, ours in HYPERPARAMETERS.items():
            if theirs in given:
                fields[ours] = given.pop(theirs)
        if "per_device_train_batch_size" in fields:
            fields["gradient_accumulation_steps"] = 1
        if "learning_rate" in fields:
            fields["learning_rate"] = LEARNING_RATE * _number(fields["learning_rate"])
        if self.seed is not None:
            fields["seed"] = self.seed
        return read_request(
            {
                **fields,
                **given,
                "model_name": self.model,
                "dataset_name": self.training_file,
                "validation_dataset_name": self.validation_file,
                "output_dir": f"{self.suffix}-{job_id[-6:]}" if self.suffix else job_id,
                "metadata": self.metadata,
            }
        )

    def _given(self) -> dict[str, Any]:
        supervised = self.method.supervised if self.method is not None else None
        newer = supervised.hyperparameters if supervised is not None else None
        if newer and self.hyperparameters:
            raise InvalidInput("hyperparameters: give them in method.supervised alone")
        given: Mapping[str, Any] = newer or self.hyperparameters or {}
        known = [*HYPERPARAMETERS, *(FinetuningRequest.model_fields.keys() - _NOT_HYPERPARAMETERS)]
        if unknown := unknown_fields(given, known):
            raise InvalidInput(f"hyperparameters: {'; '.join(unknown)}")
        return {name: value for name, value in given.items() if value != "auto"}


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput('learning_rate: give a number or "auto"')
    return value
