"""A run: from a model with LoRA layers and examples to a trained adapter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback

from ml.finetuning.backends.backend import Backend
from ml.finetuning.callbacks import (
    CheckpointKeeper,
    EarlyStopping,
    LastStep,
    Reporter,
    StopOnRequest,
    WaitForAll,
)
from ml.finetuning.checkpoints import Checkpoints
from ml.finetuning.data.prepare import TrainingData
from ml.finetuning.outcome import outcome_of
from ml.finetuning.process_group import leave_out_repeats
from ml.finetuning.request import TrainingParameters
from ml.finetuning.samples import Sampler
from ml.finetuning.tracking import trackers_of
from ml.jobs.context import JobContext, Stopped
from ml.jobs.event_type import EventType

__all__ = ["Training", "fitting_warmup", "train", "train_along"]

#: What trackers that know projects file the runs under.
_PROJECT = "finetuning"


@dataclass(frozen=True, slots=True)
class Training:
    """What is trained, on what and how: the same for all workers.

    Attributes:
        model: with its LoRA layers.
        checkpoints: those of the job, from the newest of which it goes on.
    """

    backend: Backend
    model: Any
    tokenizer: Any
    data: TrainingData
    request: TrainingParameters
    checkpoints: Checkpoints


def train(training: Training, context: JobContext, reporter: Reporter, sampler: Sampler) -> None:
    """Train a model's LoRA layers, from the newest complete checkpoint if there is one.

    What comes of it is the newest checkpoint, of which `ml.finetuning.outcome` tells. Raises
    `ml.jobs.context.Stopped` after a checkpoint was saved because of a stop request, and
    `ml.finetuning.failures.TrainingFailed` at a loss that is no finite number.
    """
    request, checkpoints = training.request, training.checkpoints
    checkpoints.discard_incomplete()
    newest = checkpoints.newest()

    def tell(message: str, level: str = "INFO") -> None:
        context.event(EventType.LOG, {"level": level, "message": message})

    def warn(message: str) -> None:
        tell(message, "WARNING")

    # The order matters: what asks for a save comes before what logs it.
    callbacks: list[TrainerCallback] = [
        StopOnRequest(context),
        LastStep(),
        reporter,
        WaitForAll(),
        CheckpointKeeper(checkpoints, context, reporter),
        sampler,
        *trackers_of(request.report_to or (), warn, after_step=newest.step if newest else 0),
    ]
    trainer = _trainer(training, callbacks, tell, context.job.id)
    _run(trainer, checkpoints)
    if outcome_of(checkpoints, request) is None:
        raise Stopped(f"stopped at step {trainer.state.global_step}, with a checkpoint")


def train_along(training: Training, rank: int) -> None:
    """Train as one of several workers: worker 0, which does `train`, tells."""
    import torch

    callbacks: list[TrainerCallback] = [StopOnRequest(None), LastStep(), WaitForAll()]
    trainer = _trainer(training, callbacks, lambda message: None)
    torch.manual_seed(training.request.seed + rank)  # not the same dropout on other examples
    _run(trainer, training.checkpoints)


def _run(trainer: Any, checkpoints: Checkpoints) -> None:
    newest = checkpoints.newest()
    trainer.train(resume_from_checkpoint=str(newest.folder) if newest else None)


def fitting_warmup(wished: int, steps: int) -> int:
    """Return the steps of warm-up: the default one is at most a tenth of all, any other half."""
    default = TrainingParameters.model_fields["warmup_steps"].default
    return min(wished, steps // (10 if wished == default else 2))


def _trainer(
    training: Training,
    callbacks: Sequence[TrainerCallback],
    tell: Callable[[str], None],
    run_name: str | None = None,
) -> Any:
    data, early = training.data, training.request.early_stopping_patience
    return _trainer_class(training.backend, training.request, tell)(
        model=training.model,
        args=_arguments(training, run_name),
        train_dataset=data.train,
        eval_dataset=data.validation or None,
        processing_class=training.tokenizer,
        callbacks=[*callbacks, *([] if early is None else [EarlyStopping(early)])],
    )


def _trainer_class(
    backend: Backend, request: TrainingParameters, tell: Callable[[str], None]
) -> type[Any]:
    class Trainer(backend.trainer_class()):  # type: ignore[misc]
        """Writes no model card: each checkpoint would ask the hub about the base model.

        Its warm-up is no longer than the run has room for, and its losses are the same for as many
        workers as for one with as many examples in a step.
        """

        def create_model_card(self, *_: Any, **__: Any) -> None:
            """Do nothing."""

        def create_scheduler(self, num_training_steps: int, *args: Any, **options: Any) -> Any:
            """Return the schedule, with a warm-up that fits the number of steps."""
            warmup = fitting_warmup(request.warmup_steps, num_training_steps)
            if warmup != request.warmup_steps:
                wished, of = request.warmup_steps, num_training_steps
                tell(f"Warm-up of {warmup} steps, not {wished}: there are only {of}")
            self.args.warmup_steps = warmup
            return super().create_scheduler(num_training_steps, *args, **options)

        def get_batch_samples(self, batches: Any, number: int, device: Any) -> tuple[Any, Any]:
            """Return a step's batches, and how many tokens all workers' have to learn."""
            samples, items = super().get_batch_samples(batches, number, device)
            if samples and leave_out_repeats(self.accelerator, samples[-1]):
                items = self._get_num_items_in_batch(samples, device)
            return samples, items

        def prediction_step(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
            """Return what evaluation makes of a batch."""
            leave_out_repeats(self.accelerator, inputs)
            return super().prediction_step(model, inputs, *args, **options)

        def _track_num_input_tokens(self, inputs: Any) -> None:
            counts = (inputs["labels"] != -100).any(1)
            names = inputs.keys() & {"input_ids", "attention_mask"}
            super()._track_num_input_tokens({name: inputs[name][counts] for name in names})

        def compute_loss(
            self,
            model: Any,
            inputs: Any,
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            """Return the loss, in evaluation as the mean of the batch that this worker has."""
            items = num_items_in_batch if model.training else None
            return super().compute_loss(model, inputs, return_outputs, items)

    return Trainer


def _arguments(training: Training, run_name: str | None) -> Any:
    import torch
    from trl import SFTConfig  # type: ignore[attr-defined]

    request, evaluating = training.request, bool(training.data.validation)
    on_gpu = torch.cuda.is_available()
    stopping_early = request.early_stopping_patience is not None
    return SFTConfig(
        output_dir=str(training.checkpoints.folder),
        max_steps=request.max_steps if request.max_steps > 0 else -1,
        num_train_epochs=request.num_train_epochs,
        per_device_train_batch_size=request.per_device_train_batch_size,
        per_device_eval_batch_size=request.per_device_train_batch_size,
        gradient_accumulation_steps=request.gradient_accumulation_steps,
        learning_rate=request.learning_rate,
        warmup_steps=request.warmup_steps,  # shortened once the number of steps is known
        lr_scheduler_type=request.lr_scheduler_type,
        weight_decay=request.weight_decay,
        max_grad_norm=request.max_grad_norm,
        optim=training.backend.optimizer,
        seed=request.seed,
        data_seed=request.seed,
        logging_steps=request.logging_steps,
        logging_nan_inf_filter=False,  # it would show the last finite loss instead
        save_strategy="steps",
        save_steps=request.save_steps,
        save_total_limit=None,  # CheckpointKeeper rotates
        eval_strategy="steps" if evaluating else "no",
        eval_steps=request.save_steps if evaluating else None,
        # Notes the best step, whose checkpoint is then kept; the adapter is taken from there.
        metric_for_best_model="eval_loss" if stopping_early else None,
        greater_is_better=False if stopping_early else None,
        gradient_checkpointing=request.gradient_checkpointing,
        max_length=request.max_seq_length,
        packing=request.packing,
        eval_packing=False,
        # As transformers has it for a model that is not in peft's hands.
        ddp_find_unused_parameters=not request.gradient_checkpointing,
        # The examples have their labels and their length already; packing is done by TRL.
        dataset_kwargs=None if request.packing else {"skip_prepare_dataset": True},
        bf16=on_gpu and torch.cuda.is_bf16_supported(),
        fp16=on_gpu and not torch.cuda.is_bf16_supported(),
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
        include_num_input_tokens_seen="non_padding",
        report_to="none",  # see ml.finetuning.tracking
        run_name=run_name,
        project=_PROJECT,
        trackio_static_space_id=False,
        disable_tqdm=True,
    )
