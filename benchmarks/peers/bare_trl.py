"""A bare TRL script: the same model, data and settings as a job, and nothing around them.

    python bare_trl.py '<the job's request as JSON>'

prints the seconds of each step as a JSON list.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback
from trl import SFTConfig, SFTTrainer

from ml.models.embedded_llm import embedded_llm_path

DATA = Path(__file__).parents[2] / "examples" / "finetuning" / "ostwick_harbour.jsonl"


class Clock(TrainerCallback):
    """Notes how long each step takes."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0

    def on_step_begin(self, *_: object, **__: object) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, *_: object, **__: object) -> None:
        self.seconds.append(time.perf_counter() - self._began)


class CpuTrainer(SFTTrainer):
    """TRL 1.15's own loss is a Triton kernel; this is the Trainer's."""

    def compute_loss(self, *args: object, **kwargs: object) -> object:
        return Trainer.compute_loss(self, *args, **kwargs)


def main() -> None:
    request = json.loads(sys.argv[1])
    folder = embedded_llm_path()
    flags = Path("/proc/cpuinfo").read_text()
    dtype = torch.bfloat16 if "avx512_bf16" in flags or "amx_bf16" in flags else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    lora = LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    rows = [json.loads(line) for line in DATA.read_text().splitlines()]
    data = Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": row["instruction"]}],
                "completion": [{"role": "assistant", "content": row["output"]}],
            }
            for row in rows
        ]
    )
    clock = Clock()
    with tempfile.TemporaryDirectory() as output:
        arguments = SFTConfig(
            output_dir=output,
            max_steps=request["max_steps"],
            per_device_train_batch_size=request["per_device_train_batch_size"],
            gradient_accumulation_steps=request["gradient_accumulation_steps"],
            learning_rate=request["learning_rate"],
            max_length=request["max_seq_length"],
            warmup_steps=request["warmup_steps"],
            weight_decay=request["weight_decay"],
            seed=request["seed"],
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            gradient_checkpointing=False,
            use_cpu=not torch.cuda.is_available(),
            bf16=False,
        )
        CpuTrainer(
            model=get_peft_model(model, lora),
            args=arguments,
            train_dataset=data,
            processing_class=AutoTokenizer.from_pretrained(folder),
            callbacks=[clock],
        ).train()
    print(json.dumps(clock.seconds))


if __name__ == "__main__":
    main()
