"""Fine-tuning jobs in this process: a small model, a data file, and a record of what was told."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml.finetuning import job as finetuning
from ml.jobs.job import Job, JobState, StopRequest

#: Quick to train: eight steps on sixteen rows.
REQUEST: dict[str, Any] = {
    "model_name": "small",
    "dataset_name": "rows.jsonl",
    "max_seq_length": 128,
    "max_steps": 8,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "learning_rate": 5e-3,
    "warmup_steps": 1,
    "save_steps": 3,
    "lora_r": 4,
}
BEGIN, END = "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass
class Context:
    """What a job's process gets, with all that it told kept in lists.

    It asks to stop in the step `stop_at`.
    """

    job: Job
    folder: Path
    stop_at: int | None = None
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    newest: dict[str, Any] = field(default_factory=dict)

    def event(self, type: str, data: dict[str, Any]) -> None:  # noqa: A002
        self.events.append((type, json.loads(json.dumps(data, allow_nan=False))))

    def progress(self, **numbers: Any) -> None:
        self.newest = json.loads(json.dumps(numbers, allow_nan=False))

    def stop_request(self) -> StopRequest | None:
        asked = self.stop_at is not None and self.newest.get("step", 0) >= self.stop_at - 1
        return StopRequest.CANCEL if asked else None

    def of(self, type: str) -> list[dict[str, Any]]:  # noqa: A002
        return [data for name, data in self.events if name == type]

    def steps(self) -> list[dict[str, Any]]:
        """Return the numbers of the training steps, without those of evaluations."""
        return [data for data in self.of("progress") if "eval_loss" not in data]

    def curve(self) -> list[tuple[int, float, float, float]]:
        names = ("step", "loss", "grad_norm", "learning_rate")
        return [tuple(data[name] for name in names) for data in self.steps()]  # type: ignore[misc]


@dataclass
class Workplace:
    """The folders of a service; jobs run in them, one after the other."""

    input: Path
    output: Path
    working: Path

    def context(self, job_id: str, *, attempt: int = 1, **request: Any) -> Context:
        job = Job(
            id=job_id,
            kind="ml.finetuning.job",
            state=JobState.RUNNING,
            request=REQUEST | request,
            created_at=0.0,
            attempt=attempt,
        )
        folder = self.working / "jobs" / job_id
        folder.mkdir(parents=True, exist_ok=True)
        return Context(job, folder)

    def run(self, job_id: str = "one", **request: Any) -> tuple[dict[str, Any], Context]:
        context = self.context(job_id, **request)
        return finetuning.run(context), context  # type: ignore[arg-type]

    def checkpoints(self, job_id: str = "one") -> list[str]:
        folder = self.working / "jobs" / job_id / "checkpoints"
        return sorted((path.name for path in folder.iterdir()), key=lambda name: int(name[11:]))


def write_rows(file: Path, pairs: Iterable[tuple[str, str]]) -> None:
    rows = [{"instruction": question, "output": answer} for question, answer in pairs]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def save_small_llm(folder: Path) -> Path:
    """Write a Llama of two layers with random weights in float32, as a hub would have it.

    Its tokenizer has a token for each byte: steps take milliseconds and checkpoints little room.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = {letter: number for number, letter in enumerate([*letters, BEGIN, END])}
    backend = Tokenizer(models.BPE(vocab=tokens, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=BEGIN, eos_token=END, pad_token=END
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,  # with less its output layer, not trained, could not be sure
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
