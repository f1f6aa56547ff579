"""The arguments of the trainer's workflow."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ml.finetuning.settings import TrainerSettings
from ml.generation.arguments import LanguageModelArguments
from ml.workflows.arguments import JobArguments, checked_arguments
from ml.workflows.faults import Faults

__all__ = ["TrainerArguments", "read_trainer_arguments"]


class TrainerArguments(TrainerSettings, JobArguments):
    """The trainer's settings, as its workflow is given them."""


def read_trainer_arguments(
    model: str | None, given: Mapping[str, object]
) -> tuple[TrainerArguments, LanguageModelArguments]:
    """Return the trainer's arguments and those of the model that answers, if one does."""
    faults = Faults()
    names = TrainerArguments.model_fields
    own = {name: value for name, value in given.items() if name in names}
    inference = {name: value for name, value in given.items() if name not in names}
    if "adapters_path" in inference:
        faults.add("adapters_path: tuned models are found in output_path")
    if model is not None:
        inference["model"] = model
    settings = faults.of(partial(checked_arguments, TrainerArguments, **own))
    if settings is not None:
        inference["adapters_path"] = str(settings.models_path)
    arguments = faults.of(partial(checked_arguments, LanguageModelArguments, names, **inference))
    faults.tell()
    return settings, arguments
