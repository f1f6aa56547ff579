"""The arguments of a workflow that runs the model file of some library."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from pydantic import Field

from ml.models.formats.engines import Engine, engine_for
from ml.models.source import BuiltInSource, ModelSource
from ml.workflows.arguments import DottedPath, Flag, Location, checked_arguments
from ml.workflows.faults import Faults
from ml.workflows.inference.model_arguments import ModelArguments, checked_source

__all__ = ["FileArguments", "read_file_arguments"]

_DEFAULT_FILENAME = "model.onnx"


class FileArguments(ModelArguments):
    """Where a model is, what runs it, and which of its outputs are answered."""

    engine: Location | None = Field(
        default=None, description="The library that runs it; by default the one of its ending"
    )
    outputs: tuple[Location, ...] = Field(
        default=(), description="The names of those that are answered; all by default"
    )
    mmap: Flag = Field(
        default=False,
        description="The weights stay in the files beside an ONNX file, so that workers share "
        "their memory",
    )
    safe_classes: tuple[DottedPath, ...] = Field(
        default=(), description="Classes that a file of skops may hold beside those it knows"
    )


def read_file_arguments(
    given: Mapping[str, object],
) -> tuple[FileArguments, ModelSource, str, Engine]:
    """Return the arguments, the source of the model, and the library that runs it.

    Raises `ConfigurationError` with all faults.
    """
    faults = Faults()
    arguments = faults.of(partial(checked_arguments, FileArguments, **given))
    source = faults.of(checked_source, arguments, given, _DEFAULT_FILENAME)
    faults.tell()
    assert source is not None  # noqa: S101  (else there is a fault)
    name, engine = _engine(source, arguments.engine, faults)
    if arguments.safe_classes and not engine.takes_classes:
        faults.add(f"safe_classes: files of {name} hold no classes")
    if arguments.mmap and engine.load_mapped is None:
        faults.add(f"mmap: {name} copies what files hold; ONNX files have a way")
    faults.tell()
    return arguments, source, name, engine


def _engine(source: ModelSource, asked: str | None, faults: Faults) -> tuple[str, Engine]:
    if isinstance(source, BuiltInSource):
        faults.add(f"model_source: {source} is torch's; TorchInferenceWorkflow runs it")
        faults.tell()
    return engine_for(source.model_id, asked)
