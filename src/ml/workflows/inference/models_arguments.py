"""The arguments of a workflow of several models."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PlainValidator, model_validator

from ml.workflows.arguments import Arguments, Location, PositiveCount

__all__ = ["Given", "ModelsArguments"]


def _given(value: object) -> object:
    if isinstance(value, str | dict) and value:
        return value
    raise ValueError("give a path, owner/name, or an object of a single model's arguments")


#: A path or a repository, or the keyword arguments of a workflow of one model.
Given = Annotated[str | dict[str, object], PlainValidator(_given)]


class ModelsArguments(Arguments):
    """Which models there are, and how many of them may be loaded at a time."""

    models: dict[str, Given] = Field(
        default_factory=dict,
        description="By name: a path or owner/name, or an object of a single model's arguments",
    )
    models_folder: Location | None = Field(
        default=None, description="Its files and sub-folders are models by their names"
    )
    default_model: Location | None = Field(
        default=None, description="Of requests that name none; loaded at the start"
    )
    max_memory_bytes: PositiveCount | None = Field(
        default=None, description="Of the files of all that are loaded, in each worker"
    )
    max_loaded_models: PositiveCount | None = Field(
        default=None, description="How many are loaded at a time, in each worker"
    )

    @model_validator(mode="after")
    def _has_some(self) -> ModelsArguments:
        if not self.models and self.models_folder is None:
            raise ValueError("give models, models_folder or both")
        return self
