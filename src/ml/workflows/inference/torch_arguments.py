"""The arguments of a torch workflow."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from pydantic import Field

from ml.json_text import JsonObject
from ml.models.formats.engines import engine_of
from ml.models.source import ModelSource
from ml.models.torch_settings import TorchSettings
from ml.proving.model_proofs import ModelProofs
from ml.workflows.arguments import (
    DottedPath,
    Flag,
    Location,
    Positive,
    PositiveCount,
    checked_arguments,
)
from ml.workflows.faults import Faults
from ml.workflows.inference.model_arguments import ModelArguments, checked_source

__all__ = ["TorchArguments", "read_arguments"]

_FOR_FILES = "ml.workflows.inference.model_file_inference_workflow.ModelFileInferenceWorkflow"


class TorchArguments(ModelArguments):
    """Where a model is, how its file is loaded, and what proves its answers."""

    use_jit: Flag = Field(default=False, description="The file is TorchScript")
    safe_classes: tuple[DottedPath, ...] = Field(
        default=(), description="Classes that the file may hold beside the layers of torch.nn"
    )
    allow_pickle: Flag = Field(default=False, description="Let the file run any code in it")
    mmap: Flag = Field(
        default=False,
        description="The weights stay in the file, so that workers share their memory",
    )
    model_class: DottedPath | None = Field(
        default=None, description="Of the model that a file with weights alone belongs to"
    )
    model_class_args: JsonObject = Field(
        default_factory=dict, description="The keyword arguments of model_class"
    )
    device: str | None = Field(default=None, description='One of torch\'s, such as "cuda:1"')
    proof_artifact: Location | None = Field(
        default=None, description="A folder that python -m ml.proving.artifacts made of the model"
    )
    proof_seconds: Positive = Field(default=600.0, description="For one proof")
    proof_memory_limit_bytes: PositiveCount | None = Field(
        default=None, description="Of the process that proves"
    )
    proof_tolerance: Positive | None = Field(
        default=None, description="How far an output of the circuit may be from the model's"
    )

    def proofs(self) -> ModelProofs | None:
        """Return what proves the model's answers, if there is an artifact."""
        if self.proof_artifact is None:
            return None
        return ModelProofs(
            Path(self.proof_artifact),
            seconds=self.proof_seconds,
            memory_limit_bytes=self.proof_memory_limit_bytes,
            tolerance=self.proof_tolerance,
        )


def read_arguments(given: Mapping[str, object]) -> tuple[TorchArguments, ModelSource]:
    """Return the arguments that are given, and the source of the model that they name.

    The environment's settings stand for what is left out. Raises `ConfigurationError` with all
    faults.
    """
    settings = TorchSettings.from_environment()
    faults = Faults()
    if given.get("use_jit") is None:
        given = {**given, "use_jit": settings.use_jit}
    arguments = faults.of(partial(checked_arguments, TorchArguments, **given))
    source = faults.of(checked_source, arguments, given, settings.torch_model_file_name)
    faults.add(*_without_artifact(given), *_of_another_library(source), *_without_class(given))
    faults.tell()
    assert source is not None  # noqa: S101  (else there is a fault)
    return arguments, source


def _of_another_library(source: ModelSource | None) -> list[str]:
    if source is None or (engine := engine_of(source.model_id)) is None:
        return []
    return [f"{source.model_id}: this file is for {engine}; set the workflow class {_FOR_FILES}"]


def _without_class(given: Mapping[str, object]) -> list[str]:
    has_class = given.get("model_class") is not None
    if has_class and given.get("use_jit"):
        return ["use_jit: TorchScript needs no model_class"]
    if given.get("model_class_args") and not has_class:
        return ["model_class_args: needs model_class"]
    return []


def _without_artifact(given: Mapping[str, object]) -> list[str]:
    if given.get("proof_artifact") is not None:
        return []
    needing = ("proof_memory_limit_bytes", "proof_tolerance")
    return [f"{name}: needs proof_artifact" for name in needing if given.get(name) is not None]
