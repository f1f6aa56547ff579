"""Which engine runs a model, and why."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ml.errors import ConfigurationError
from ml.extras import how_to_install
from ml.models.gpu import gpu_in_sight
from ml.models.openvino_model import openvino_source

if TYPE_CHECKING:
    from ml.generation.arguments import LanguageModelArguments

__all__ = ["EngineChoice", "choose_engine"]

#: The package without which an engine cannot run, and the extra that brings it.
_NEEDS = {
    "openvino": ("openvino_genai", "llm"),
    "transformers": ("torch", "transformers"),
    "vllm": ("vllm", "vllm"),
}


@dataclass(frozen=True)
class EngineChoice:
    """An engine by its name, and the reason in words."""

    name: str
    reason: str

    def require_installed(self) -> None:
        """Raise `ConfigurationError` with the extra to install where a package is missing."""
        package, extra = _NEEDS[self.name]
        if find_spec(package) is None:
            why = f"{package} is not installed: {how_to_install(extra)}"
            raise ConfigurationError(f"engine {self.name} ({self.reason}): {why}")


def choose_engine(arguments: LanguageModelArguments) -> EngineChoice:
    """Return the engine that the arguments name, or that `auto` is for them on this machine."""
    if arguments.engine != "auto":
        return EngineChoice(arguments.engine, f"engine is {arguments.engine}")
    if gpu_in_sight() and find_spec("vllm") is not None and not arguments.refused_by_vllm():
        return EngineChoice("vllm", "auto, and there is a GPU")
    if forced := arguments.only_by_transformers():
        return EngineChoice("transformers", f"auto, and only it takes {', '.join(forced)}")
    if gpu_in_sight() and find_spec("torch") is not None:
        return EngineChoice("transformers", "auto, and there is a GPU")
    asked_for_weights = "weights" in arguments.model_fields_set
    if not asked_for_weights and openvino_source(arguments.model) is None:
        return EngineChoice("transformers", "auto, and openvino does not read the model")
    if find_spec("openvino_genai") is None and find_spec("torch") is not None:
        return EngineChoice("transformers", "auto, and openvino-genai is not installed")
    return EngineChoice("openvino", "auto, on a CPU")
