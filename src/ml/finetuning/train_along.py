"""A further worker's part of a training: the same model and examples, its share of each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml.finetuning.backends.backend import Backend
from ml.finetuning.checkpoints import Checkpoints
from ml.finetuning.data.prepare import TrainingData
from ml.finetuning.failures import explained_failures
from ml.finetuning.process_group import Place
from ml.finetuning.request import FinetuningRequest
from ml.finetuning.start import Start

__all__ = ["TrainAlong", "with_lora"]


@dataclass(frozen=True, slots=True)
class TrainAlong:
    """What worker 0 gives the others; see `ml.finetuning.workers.Part`."""

    folder: Path
    backend: Backend
    start: Start
    tokenizer: Any
    data: TrainingData
    request: FinetuningRequest

    def do(self, place: Place, ready: Callable[[], None]) -> None:
        """Load the model on a GPU of its own, if there is one, and train along."""
        with explained_failures(self.request):
            self.backend.prepare(self.request.num_workers)
            import torch

            # It imports transformers: after the backend did.
            from ml.finetuning.training import Training, train_along

            if torch.cuda.is_available():
                torch.cuda.set_device(place.rank)
            model = self.backend.load(self.start.source, self.request)
            model = with_lora(self.backend, model, self.start, self.request)
            ready()
            with place.in_group():
                train_along(
                    Training(
                        self.backend,
                        model,
                        self.tokenizer,
                        self.data,
                        self.request,
                        Checkpoints.of_job(self.folder),
                    ),
                    place.rank,
                )


def with_lora(backend: Backend, model: Any, start: Start, request: FinetuningRequest) -> Any:
    """Return a base model with the LoRA layers to train, those of the start or new ones."""
    if start.adapter is None:
        return backend.add_lora(model, request)
    from peft import PeftModel

    tuned = PeftModel.from_pretrained(model, str(start.adapter), is_trainable=True)
    # Its configuration has the base's name, of which each save would ask the hub.
    tuned.peft_config["default"].base_model_name_or_path = start.source
    return tuned
