"""Causal language models as OpenVINO reads them: GGUF files, and folders of its own.

Nothing here needs torch, or OpenVINO itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveInt

from ml.errors import ConfigurationError
from ml.models.causal_lm import end_tokens_of
from ml.models.converted_models import converted_source
from ml.models.embedded_llm import EMBEDDED_LLM, OPENVINO_FOLDER, embedded_llm_path
from ml.models.local_models import folder_here
from ml.models.model_config import ModelConfig

__all__ = ["OpenVINOModel", "Weights", "load_openvino_model", "openvino_source"]

Weights = Literal["fp16", "int8", "int4"]

_OPENVINO_FILE = "openvino_model.xml"
#: What is in the names of GGUF files.
_KINDS: dict[Weights, tuple[str, ...]] = {
    "fp16": ("F16",),
    "int8": ("Q8_0",),
    "int4": ("Q4_0", "Q4_K"),
}


class _Ends(ModelConfig):
    eos_token_id: NonNegativeInt | list[NonNegativeInt] | None = None


class _Config(_Ends):
    vocab_size: PositiveInt
    max_position_embeddings: PositiveInt = 2048


@dataclass(frozen=True)
class OpenVINOModel:
    """Where a model lies; its tokenizer is loaded when it is asked for first.

    Attributes:
        source: its GGUF file, or its folder with `openvino_model.xml`.
        configured_ends: what its config says of ids that end the model's turn.
        max_length: positions that the model was made for.
        vocabulary: how many token ids it has.
        positive_logits: they are known to be above zero.
    """

    source: Path
    configured_ends: int | list[int] | None
    max_length: int
    vocabulary: int
    positive_logits: bool

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer. Raises `ConfigurationError` where that cannot be loaded."""
        import transformers

        # The second takes seconds more to import where torch is installed.
        whole = (self.folder / "tokenizer.json").is_file()
        kind: Any = transformers.PreTrainedTokenizerFast if whole else transformers.AutoTokenizer
        try:
            return kind.from_pretrained(self.folder, trust_remote_code=False)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigurationError(f"{self.folder}: no tokenizer: {reason}") from error

    @property
    def folder(self) -> Path:
        """Its folder, also with its config and its tokenizer."""
        whole = (self.source / "config.json").is_file()
        return self.source if whole else self.source.parent

    @cached_property
    def end_tokens(self) -> tuple[int, ...]:
        """The ids that end the model's turn."""
        return end_tokens_of(self.configured_ends, self.tokenizer)

    @property
    def dtype(self) -> str:
        """The format of the weights."""
        return "gguf" if self.source.suffix == ".gguf" else "openvino"

    @property
    def device_type(self) -> str:
        """Where it runs."""
        return "cpu"


def load_openvino_model(name: str, weights: Weights = "int8") -> OpenVINOModel:
    """Return a model by its name or folder, which also holds its config and its tokenizer.

    Raises `ConfigurationError` saying what is missing, or which engine can read it.
    """
    source = openvino_source(name, weights)
    if source is None:
        raise ConfigurationError(f"model {name!r}: {_why_unread(name, weights)}")
    folder = source if (source / "config.json").is_file() else source.parent
    config = _Config.read(folder / "config.json")
    generation = folder / "generation_config.json"
    ends = _Ends.read(generation) if generation.is_file() else config
    return OpenVINOModel(
        source,
        ends.eos_token_id,
        max_length=config.max_position_embeddings,
        vocabulary=config.vocab_size,
        positive_logits=name == EMBEDDED_LLM,
    )


def openvino_source(name: str, weights: Weights = "int8") -> Path | None:
    """Return the folder or GGUF file of a model that OpenVINO reads, if it is on this machine.

    `weights` chooses among the files of a folder, and among what `ml.models.convert` made.
    """
    folder = folder_here(name)
    if folder is not None and (folder / _OPENVINO_FILE).is_file():
        return folder
    if converted := converted_source(name, weights, folder):
        return converted
    if name == EMBEDDED_LLM and weights == "int8" and folder is not None:
        made = folder / OPENVINO_FOLDER
        if (made / _OPENVINO_FILE).is_file():
            return made
    files = sorted(folder.glob("*.gguf")) if folder is not None else []
    fitting = [file for file in files if any(kind in file.name for kind in _KINDS[weights])]
    if name == EMBEDDED_LLM or len(files) > 1:
        files = fitting
    return files[0] if files else None


def _why_unread(name: str, weights: Weights) -> str:
    if name == EMBEDDED_LLM and weights != "int4":
        return (
            f"its GGUF, which engine openvino reads, is not in {embedded_llm_path()}: run python "
            "-m ml.models.embedded_llm"
        )
    return (
        "engine openvino reads folders on this machine with a GGUF file or "
        f"{_OPENVINO_FILE}; python -m ml.models.convert {name} --weights {weights} makes one, and "
        "engine transformers reads safetensors, and models of the hub"
    )
