"""TRL's SFTTrainer with peft, on the CPU or a CUDA GPU."""

from __future__ import annotations

import importlib.util
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ml.errors import UnprocessableInput
from ml.finetuning.asking import undisturbed
from ml.finetuning.request import TrainingParameters
from ml.models.causal_lm import CausalLMOptions, load_causal_lm

__all__ = ["TrlBackend"]

_PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")


class TrlBackend:
    """Trains LoRA layers in float32 on weights of a dtype, as of `CausalLMOptions`."""

    name = "trl"
    optimizer = "adamw_torch"

    def __init__(self, *, dtype: str = "auto") -> None:
        self._dtype = dtype

    def refusal(self, request: TrainingParameters) -> str | None:
        """Return why it cannot be used here, or None."""
        missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            return f"{', '.join(missing)} not installed; install the extra 'trainer'"
        if request.load_in_4bit:
            return "load_in_4bit needs the backend 'unsloth', and with it a CUDA GPU"
        return None

    def prepare(self, workers: int = 1) -> None:
        """Leave a core to others, unless `OMP_NUM_THREADS` says how many threads there are to be.

        As many threads as cores, and one core in use: each step then waits for the thread that
        has to share, and takes ten times as long. Workers share the threads.
        """
        import torch

        most = max((len(os.sched_getaffinity(0)) - 1) // workers, 1)
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(most)
        elif workers > 1:
            torch.set_num_threads(min(torch.get_num_threads(), most))

    def load(self, source: str, request: TrainingParameters) -> Any:
        """Load a base model from safetensors; no code of a repository is run."""
        options = CausalLMOptions.model_validate({"dtype": self._dtype})
        return load_causal_lm(source, options).model

    def add_lora(self, model: Any, request: TrainingParameters) -> Any:
        """Return the model with LoRA layers by peft."""
        from peft import LoraConfig, get_peft_model
        from transformers import set_seed

        config = LoraConfig(
            r=request.lora_r,
            lora_alpha=request.lora_alpha,
            lora_dropout=request.lora_dropout,
            target_modules=request.target_modules,
            bias="none",
            task_type="CAUSAL_LM",
        )
        set_seed(request.seed)
        try:
            return get_peft_model(model, config)
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise UnprocessableInput(f"target_modules: {reason}") from error

    def trainer_class(self) -> type[Any]:
        """Return TRL's SFTTrainer, with a loss of ours where there is no GPU."""
        import torch
        from transformers import Trainer
        from trl import SFTTrainer  # type: ignore[attr-defined]

        from ml.finetuning.backends.cpu_loss import completion_loss, keeps_chosen_logits

        if torch.cuda.is_available():
            return SFTTrainer

        class CpuTrainer(SFTTrainer):
            """Computes the loss without Triton."""

            def compute_loss(
                self,
                model: Any,
                inputs: dict[str, Any],
                return_outputs: bool = False,
                num_items_in_batch: Any = None,
            ) -> Any:
                """Return the loss, of the model's own making where its outputs are wanted too."""
                if return_outputs or not keeps_chosen_logits(self.model):
                    return Trainer.compute_loss(
                        self, model, inputs, return_outputs, num_items_in_batch
                    )
                loss = completion_loss(model, inputs, num_items_in_batch)
                if num_items_in_batch is None:
                    return loss
                # The items are all workers', of whose gradients the mean is taken.
                return loss * self.accelerator.num_processes

        return CpuTrainer

    def asking(self, model: Any) -> AbstractContextManager[None]:
        """Have a model in training answer in the block, without dropout."""
        return undisturbed(model)

    def load_adapter(self, source: str, adapter: Path, request: TrainingParameters) -> Any:
        """Load a base model with a saved adapter on it."""
        from peft import PeftModel

        return PeftModel.from_pretrained(self.load(source, request), str(adapter)).eval()

    def save_merged(self, model: Any, tokenizer: Any, folder: Path) -> None:
        """Write the merged weights as safetensors in bfloat16, or float16 if they are that."""
        import torch

        merged = model.merge_and_unload()
        if merged.dtype != torch.float16:
            merged = merged.to(torch.bfloat16)
        merged.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
