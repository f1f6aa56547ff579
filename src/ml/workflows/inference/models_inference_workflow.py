"""Answers tensors with one of several models, which a request names."""

from __future__ import annotations

import contextlib
import copy
import importlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import structlog
from pydantic.json_schema import JsonSchemaValue

from ml.errors import ConfigurationError, InvalidInput, ServiceError
from ml.infernet.tensor_request import TensorRequest, named_model
from ml.json_text import JsonObject
from ml.workflows.arguments import checked_arguments
from ml.workflows.faults import Faults
from ml.workflows.inference.base_classic_ml_inference_workflow import (
    BaseClassicMLInferenceWorkflow,
)
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow
from ml.workflows.inference.batcher import Batcher
from ml.workflows.inference.loaded_models import LoadedModels, ModelsObserver
from ml.workflows.inference.models_arguments import ModelsArguments
from ml.workflows.inference.offered_models import OfferedModels

__all__ = ["ModelsInferenceWorkflow"]

log = structlog.get_logger(__name__)

#: A form lists so many at most; beyond, a name is written.
_MOST_CHOICES = 1000

#: Makes what batches the requests of a model, if it can be; the function counts those at work.
NewBatcher = Callable[[BaseInferenceWorkflow, Callable[[], int]], Batcher | None]


class ModelsInferenceWorkflow(BaseClassicMLInferenceWorkflow):
    """Answers tensors with one of several models: the one that `model_id` names.

    Each is what `TorchInferenceWorkflow` or, by its file's ending, `ModelFileInferenceWorkflow`
    runs, or the class that its `workflow_class` names:

        ModelsInferenceWorkflow(models={"iris": {"model_source": …}, "houses": "houses.onnx"})
        ModelsInferenceWorkflow(models_folder="models", default_model="iris")

    The arguments are those of `ModelsArguments`. A model is loaded when a request names it; one
    whose last use is longest ago makes room. Raises `ConfigurationError` with all faults.
    """

    about = (
        "Answers numbers with one of several trained models: a table of numbers goes in, the "
        "result of the model that is chosen comes out."
    )

    def __init__(self, **arguments: object) -> None:
        super().__init__()
        faults = Faults()
        given = faults.of(partial(checked_arguments, ModelsArguments, **arguments))
        faults.tell()
        self._arguments = given
        self._offered = faults.of(OfferedModels, given.models, given.models_folder)
        faults.tell()
        self._default = given.default_model
        if given.default_model is not None:
            self._default = self._offered.find(given.default_model)
            if self._default is None:
                there = ", ".join(self._offered.names()[:20])
                raise ConfigurationError(f"default_model: there is none of this name in {there}")
        self._loaded: LoadedModels | None = None
        self.observer = ModelsObserver()
        self.new_batcher: NewBatcher = lambda workflow, at_work: None
        #: How many requests may wait for models to be loaded; None for any number.
        self.most_waiting: int | None = None

    @contextlib.asynccontextmanager
    async def hold(self, model_id: str) -> AsyncIterator[BaseClassicMLInferenceWorkflow]:
        """Have the model of an id loaded, "" for the default one, and keep it so.

        Raises `NotFound` for an id that no model has, `InvalidInput` where one is due, and
        `NotReady` that says why it cannot be loaded.
        """
        self._require_setup()
        name = self._name_of(model_id)
        async with self._models.hold(name) as workflow:
            yield workflow

    def for_model(self, model_id: str) -> ModelsInferenceWorkflow:
        """Return a workflow that tells of this model as of its default one.

        Raises `NotFound` for an id that no model has.
        """
        told = copy.copy(self)
        told._default = self._offered.name_of(model_id)
        return told

    def model_id_of(self, data: object) -> str:
        """Return the id in OFFCHAIN data, "" for none. Raises `InvalidInput` for no text."""
        model_id = data.get("model_id") if isinstance(data, dict) else None
        if model_id is not None and not isinstance(model_id, str):
            raise InvalidInput("data.model_id: give the name of a model, as a text")
        return model_id or ""

    def onchain_model_id_of(self, data: bytes) -> str:
        """Return the id in a contract's bytes, "" for none and for bytes of another form."""
        try:
            return named_model(data)
        except InvalidInput:  # the model's own form may be another; else it says what is wrong
            return ""

    def state(self) -> dict[str, object]:
        """Return which models are loaded and being loaded, and their bytes."""
        return {} if self._loaded is None else self._loaded.state()

    # --- hooks --------------------------------------------------------------------------------

    async def do_setup(self) -> None:
        """Import the libraries that models need, and load the default one.

        An import keeps the event loop waiting; here, nobody else does.
        """
        await self.in_thread(self._import_libraries)
        self._loaded = LoadedModels(
            self._offered.new,
            self._prepare,
            self.observer,
            most_bytes=self._arguments.max_memory_bytes,
            most_models=self._arguments.max_loaded_models,
            most_waiting=self.most_waiting,
        )
        if self._default is None:
            return
        try:
            async with self._loaded.hold(self._default):
                pass
        except ServiceError as refusal:
            await self._loaded.close()
            raise refusal.__cause__ or refusal from None

    async def do_close(self) -> None:
        """Give all models back."""
        if self._loaded is not None:
            await self._loaded.close()
            self._loaded = None

    async def do_run_model(self, preprocessed_data: object) -> object:
        """Return what the model that the data names answers."""
        async with self.hold(self.model_id_of(preprocessed_data)) as workflow:
            return await workflow.inference(preprocessed_data)

    def do_preprocessing(self, input_data: object) -> object:
        """Return the input itself: the model reads it."""
        return input_data

    def do_postprocessing(self, input_data: object, output_data: object) -> object:
        """Return the model's output itself."""
        return output_data

    # --- what is told -------------------------------------------------------------------------

    @property
    def can_prove(self) -> bool:
        """Whether the default model's answers can be proved."""
        return self._default is not None and self._told().can_prove

    @property
    def has_onchain_input(self) -> bool:
        """Whether contracts can ask the default model."""
        return self._default is None or self._told().has_onchain_input

    def encode_onchain_input(self, data: object) -> bytes:
        """Return a tensor request that names the model, if the data does."""
        model_id = self.model_id_of(data)
        encoded = self._offered.told(self._name_of(model_id)).encode_onchain_input(data)
        if not model_id:
            return encoded
        return replace(TensorRequest.decode(encoded), model_id=model_id).encode()

    def input_schema(self) -> JsonSchemaValue | None:
        """Return the JSON Schema of what the default model takes, with the choice of a model."""
        schema = (self._told().input_schema() if self._default else super().input_schema()) or {}
        choice: JsonSchemaValue = {
            "type": "string",
            "title": "Model",
            "description": "The model that answers",
            "x-first": True,
        }
        names = self._offered.names()
        if len(names) <= _MOST_CHOICES:
            choice["enum"] = names
        required = [*schema.get("required", ())]
        if self._default is None:
            required.insert(0, "model_id")
        else:
            choice["default"] = self._default
        properties = {"model_id": choice, **schema.get("properties", {})}
        return {**schema, "type": "object", "properties": properties, "required": required}

    def example_input(self) -> object:
        """Return an input of the default model once it is loaded, None where that is not known."""
        example = self._told().example_input() if self._default else None
        return {"model_id": self._default, **example} if isinstance(example, Mapping) else None

    @property
    def shared_imports(self) -> Sequence[str]:
        """Those of the models, without a repetition."""
        return self._of_all(lambda model: model.shared_imports)

    def supports_model(self, model_id: str) -> bool:
        """Return whether there is a model of this id."""
        return self._offered.find(model_id) is not None

    def compute_capability(self) -> JsonObject:
        """Return this workflow's entry in the `/service-resources` document."""
        names = self._offered.names()
        own = {"models": names, "loaded_models": self.state().get("loaded", [])}
        resources = {**super().compute_capability(), **own}
        if self._offered.can_prove():  # whether or not the default one can
            resources["task"] = ["tensor_inference", "proof"]
        return resources

    def chosen(self) -> JsonObject:
        """Return which models there are, and which are loaded, for the `/config` document."""
        return {"models": {"offered": self._offered.names(), **self.state()}}

    def _name_of(self, model_id: str) -> str:
        if model_id:
            return self._offered.name_of(model_id)
        if self._default is None:
            there = ", ".join(self._offered.names()[:20])
            raise InvalidInput(f"model_id: name one of the models here, such as {there}")
        return self._default

    def _told(self) -> BaseClassicMLInferenceWorkflow:
        """Return what tells of the default model: itself, if it is loaded."""
        name = self._name_of("")
        loaded = self._loaded.workflow_of(name) if self._loaded is not None else None
        return loaded or self._offered.told(name)

    def _of_all(
        self, names: Callable[[BaseClassicMLInferenceWorkflow], Iterable[str | None]]
    ) -> list[str]:
        """Return what modules the models name, each once."""
        named: set[str | None] = set()
        for name in self._offered.names():
            with contextlib.suppress(ConfigurationError):  # which is told to who asks for the model
                named.update(names(self._offered.told(name)))
        return sorted(filter(None, named))

    def _import_libraries(self) -> None:
        for library in self._of_all(lambda model: [model.library]):
            try:
                importlib.import_module(library)
            except (ImportError, OSError) as error:
                log.warning("library_not_imported", library=library, error=str(error))

    @property
    def _models(self) -> LoadedModels:
        assert self._loaded is not None  # noqa: S101  (once it is set up)
        return self._loaded

    def _prepare(
        self, workflow: BaseClassicMLInferenceWorkflow, at_work: Callable[[], int]
    ) -> Batcher | None:
        batcher = self.new_batcher(workflow, at_work)
        workflow.use(executor=self._executor, batcher=batcher)
        return batcher
