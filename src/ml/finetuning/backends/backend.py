"""The interface of a trainer backend."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from ml.finetuning.request import TrainingParameters

__all__ = ["Backend"]


class Backend(Protocol):
    """How a model is loaded, given LoRA layers, trained and merged.

    Attributes:
        name: as in the request.
        optimizer: the name that transformers has for it.
    """

    name: str
    optimizer: str

    def refusal(self, request: TrainingParameters) -> str | None:
        """Return why it cannot do this here, or None. It loads no library of its own."""
        ...

    def prepare(self, workers: int = 1) -> None:
        """Import what it needs, in the order that it needs; before transformers and peft.

        This process is one of so many workers of a host, which share its processors.
        """
        ...

    def load(self, source: str, request: TrainingParameters) -> Any:
        """Load a base model by its folder or hub name, a causal one of transformers.

        Raises `ml.errors.ConfigurationError` if it cannot be loaded.
        """
        ...

    def add_lora(self, model: Any, request: TrainingParameters) -> Any:
        """Return the model with LoRA layers to train, their start given by the seed.

        Raises `ml.errors.UnprocessableInput` for target modules that it does not have.
        """
        ...

    def trainer_class(self) -> type[Any]:
        """Return the Trainer to use, an `SFTTrainer` of TRL."""
        ...

    def asking(self, model: Any) -> AbstractContextManager[None]:
        """Have a model in training answer in the block; training goes on as without it."""
        ...

    def load_adapter(self, source: str, adapter: Path, request: TrainingParameters) -> Any:
        """Load a base model with a saved adapter on it, a `PeftModel` to ask."""
        ...

    def save_merged(self, model: Any, tokenizer: Any, folder: Path) -> None:
        """Write a model of `load_adapter` with its adapter merged into it, in 16 bits.

        The model is not to be used afterwards.
        """
        ...
