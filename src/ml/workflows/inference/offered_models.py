"""The models that a service has, by name: those that are listed, and those in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ml.errors import ConfigurationError, NotFound, did_you_mean
from ml.models.formats.engines import engine_of
from ml.workflows.faults import Faults
from ml.workflows.inference.base_classic_ml_inference_workflow import (
    BaseClassicMLInferenceWorkflow,
)
from ml.workflows.inference.models_arguments import Given
from ml.workflows.inference.models_folder import ModelsFolder
from ml.workflows.loading import load_workflow

__all__ = ["OfferedModels"]

_OF_TORCH = "ml.workflows.inference.torch_inference_workflow.TorchInferenceWorkflow"
_OF_FILES = "ml.workflows.inference.model_file_inference_workflow.ModelFileInferenceWorkflow"
#: What a refusal lists at most.
_MOST_NAMES = 20
#: Comparing takes longer the longer they are; callers may send what they like.
_LONGEST_COMPARED = 50


class OfferedModels:
    """Finds what a request names, and makes a workflow of it, which is not set up.

    Raises `ConfigurationError` with all faults of the arguments of those that are listed.
    """

    def __init__(self, listed: Mapping[str, Given], folder: str | None) -> None:
        faults = Faults()
        self._listed = listed
        self._folder = faults.of(ModelsFolder, Path(folder)) if folder is not None else None
        #: One of each that is listed, for what is asked of models that are not loaded.
        self._told = {name: faults.of(_named, name, given) for name, given in listed.items()}
        faults.tell()

    def names(self) -> list[str]:
        """Return the names of all: those that are listed in their order, then the folder's."""
        found = [] if self._folder is None else self._folder.names()
        return list(dict.fromkeys([*self._listed, *found]))

    def find(self, model_id: str) -> str | None:
        """Return the name of the model that an id means; its source may be known by other ids."""
        if model_id in self._told:
            return model_id
        if self._folder is not None and (name := self._folder.name_of(model_id)) is not None:
            return name
        known = self._told.items()
        return next((name for name, one in known if one.supports_model(model_id)), None)

    def name_of(self, model_id: str) -> str:
        """Return what `find` does. Raises `NotFound` that says which there are."""
        if (name := self.find(model_id)) is not None:
            return name
        names = self.names()
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        hint = did_you_mean(model_id, names) if len(model_id) <= _LONGEST_COMPARED else ""
        raise NotFound(
            f"model_id: {model_id[:200]!r} is not served here; "
            f"there are {', '.join(names[:_MOST_NAMES])}{more}{hint}"
        )

    def new(self, name: str) -> BaseClassicMLInferenceWorkflow:
        """Return a workflow to load; reads the model's file.

        Raises `ConfigurationError` where there cannot be one.
        """
        if name in self._listed or self._folder is None:
            return _workflow(name, self._listed[name])
        return _workflow(name, str(self._folder.path_to_load(name)))

    def can_prove(self) -> bool:
        """Return whether answers of a model can be proved; files of a folder have no artifact."""
        return any(one.can_prove for one in self._told.values())

    def told(self, name: str) -> BaseClassicMLInferenceWorkflow:
        """Return a workflow of a model that says what is known of it without its file."""
        if name in self._told or self._folder is None:
            return self._told[name]
        return _workflow(name, str(self._folder.path_of(name)))


def _named(name: str, given: Given) -> BaseClassicMLInferenceWorkflow:
    try:
        if not name or not name.isprintable() or len(name) > 200:
            raise ConfigurationError("give names of 1 to 200 characters that can be printed")
        return _workflow(name, given)
    except ConfigurationError as error:
        lines = [f"models.{name[:200]}: {line}" for line in str(error).splitlines()]
        raise ConfigurationError("\n".join(lines)) from error


def _workflow(name: str, given: Given) -> BaseClassicMLInferenceWorkflow:
    arguments = {"model": given} if isinstance(given, str) else dict(given)
    path = str(arguments.pop("workflow_class", None) or _class_for(arguments))
    workflow = load_workflow(path, (), arguments)
    if not isinstance(workflow, BaseClassicMLInferenceWorkflow) or workflow.can_stream:
        due = f"a {BaseClassicMLInferenceWorkflow.__name__} that answers whole"
        raise ConfigurationError(f"workflow_class: {path} is not {due}")
    workflow.known_as = name
    return workflow


def _class_for(arguments: Mapping[str, object]) -> str:
    """Return the class that runs a model, by the ending of its file."""
    inner = arguments.get("model_args")
    places = [arguments, inner if isinstance(inner, Mapping) else {}]
    texts = [str(place.get(key, "")) for place in places for key in ("model", "path", "filename")]
    is_for_file = "engine" in arguments or any(engine_of(text) for text in texts)
    return _OF_FILES if is_for_file else _OF_TORCH
