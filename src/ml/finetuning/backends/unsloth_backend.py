"""Unsloth, on a CUDA GPU.

It changes transformers, peft and TRL in place when it is imported, so it belongs into a job's own
process, and has to be imported before them. Its interface is that of the releases of late 2026.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ml.errors import ConfigurationError, UnprocessableInput
from ml.finetuning.asking import undisturbed
from ml.finetuning.request import TrainingParameters
from ml.models.gpu import gpu_in_use

__all__ = ["UnslothBackend"]

#: What Unsloth means by all linear layers; it wants them by name.
_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
#: Its call for download statistics waits for minutes where there is no network.
_ENVIRONMENT = {"UNSLOTH_DISABLE_STATISTICS": "1"}


class UnslothBackend:
    """Trains with _fast_language_model()."""

    name = "unsloth"
    optimizer = "adamw_8bit"

    def __init__(self, gpu: Callable[[], bool] = gpu_in_use) -> None:
        self._gpu = gpu

    def refusal(self, request: TrainingParameters) -> str | None:
        """Return why it cannot be used here, or None."""
        if importlib.util.find_spec("unsloth") is None:
            return "unsloth is not installed; install the extra 'unsloth'"
        if not self._gpu():
            return "it needs a CUDA GPU, and this machine shows none"
        if request.num_workers > 1:
            return "it trains in one process; num_workers needs the backend 'trl'"
        return None

    def prepare(self, workers: int = 1) -> None:
        """Import Unsloth, with its compiled files in the working directory's cache of the job."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        importlib.import_module("unsloth")

    def load(self, source: str, request: TrainingParameters) -> Any:
        """Load a base model; `load_in_4bit` None goes by the name, as "…-bnb-4bit" does."""
        in_4bit = request.load_in_4bit
        try:
            model, _ = _fast_language_model().from_pretrained(
                model_name=source,
                max_seq_length=request.max_seq_length,
                dtype=None,
                load_in_4bit="bnb-4bit" in source if in_4bit is None else in_4bit,
                random_state=request.seed,
                trust_remote_code=False,
            )
        except (OSError, ValueError, RuntimeError) as error:
            if type(error).__name__ == "OutOfMemoryError":
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConfigurationError(f"model {source!r} cannot be loaded: {reason}") from error
        return model

    def add_lora(self, model: Any, request: TrainingParameters) -> Any:
        """Return the model with LoRA layers by Unsloth."""
        targets = request.target_modules
        try:
            return _fast_language_model().get_peft_model(
                model,
                r=request.lora_r,
                lora_alpha=request.lora_alpha,
                lora_dropout=request.lora_dropout,
                target_modules=_LINEAR if targets == "all-linear" else targets,
                bias="none",
                use_gradient_checkpointing="unsloth" if request.gradient_checkpointing else False,
                random_state=request.seed,
                max_seq_length=request.max_seq_length,
            )
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise UnprocessableInput(f"target_modules: {reason}") from error

    def trainer_class(self) -> type[Any]:
        """Return TRL's SFTTrainer, which Unsloth has replaced by its own."""
        from trl import SFTTrainer  # type: ignore[attr-defined]

        return SFTTrainer

    @contextmanager
    def asking(self, model: Any) -> Iterator[None]:
        """Have a model in training answer in the block, as Unsloth has it for inference."""
        with undisturbed(model):
            _fast_language_model().for_inference(model)
            try:
                yield
            finally:
                _fast_language_model().for_training(model)

    def load_adapter(self, source: str, adapter: Path, request: TrainingParameters) -> Any:
        """Load a base model with a saved adapter on it, for inference."""
        from peft import PeftModel

        model = PeftModel.from_pretrained(self.load(source, request), str(adapter))
        _fast_language_model().for_inference(model)
        return model

    def save_merged(self, model: Any, tokenizer: Any, folder: Path) -> None:
        """Write the merged weights as safetensors in 16 bits, 4-bit ones dequantised."""
        model.save_pretrained_merged(str(folder), tokenizer, save_method="merged_16bit")


def _fast_language_model() -> Any:
    return importlib.import_module("unsloth").FastLanguageModel
