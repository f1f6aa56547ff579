"""A run: from a model with LoRA layers and examples to a trained adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ml.finetuning.backends.backend import Backend
from ml.finetuning.callbacks import CheckpointKeeper, EarlyStopping, Reporter, StopOnRequest
from ml.finetuning.checkpoints import Checkpoints
from ml.finetuning.data.prepare import TrainingData
from ml.finetuning.outcome import outcome_of
from ml.finetuning.request import TrainingParameters
from ml.jobs.context import JobContext, Stopped
from ml.jobs.event_type import EventType

__all__ = ["fitting_warmup", "train"]


def train(
    context: JobContext,
    checkpoints: Checkpoints,
    backend: Backend,
    model: Any,
    tokenizer: Any,
    data: TrainingData,
    request: TrainingParameters,
    reporter: Reporter,
) -> None:
    """Train a model's LoRA layers, from the newest complete checkpoint if there is one.

    What comes of it is the newest checkpoint, of which `ml.finetuning.outcome` tells. Raises
    `ml.jobs.context.Stopped` after a checkpoint was saved because of a stop request, and
    `ml.finetuning.failures.TrainingFailed` at a loss that is no finite number.
    """
    checkpoints.discard_incomplete()
    newest = checkpoints.newest()
    # The order matters: what asks for a save comes before what logs it.
    callbacks = [StopOnRequest(context), reporter, CheckpointKeeper(checkpoints, context, reporter)]
    if request.early_stopping_patience is not None:
        callbacks.append(EarlyStopping(request.early_stopping_patience))
    trainer = _trainer_class(backend, context, request)(
        model=model,
        args=_arguments(backend, request, checkpoints.folder, evaluating=bool(data.validation)),
        train_dataset=data.train,
        eval_dataset=data.validation or None,
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    try:
        trainer.train(resume_from_checkpoint=str(newest.folder) if newest else None)
    except BaseException:
        checkpoints.discard_incomplete()  # of all times, a full disk has no room for half of one
        raise
    if outcome_of(checkpoints, request) is None:
        raise Stopped(f"stopped at step {trainer.state.global_step}, with a checkpoint")


def fitting_warmup(wished: int, steps: int) -> int:
    """Return the steps of warm-up: the default one is at most a tenth of all, any other half."""
    default = TrainingParameters.model_fields["warmup_steps"].default
    return min(wished, steps // (10 if wished == default else 2))


def _trainer_class(backend: Backend, context: JobContext, request: TrainingParameters) -> type[Any]:
    class Trainer(backend.trainer_class()):  # type: ignore[misc]
        """Writes no model card: each checkpoint would ask the hub about the base model.

        Its warm-up is no longer than the run has room for.
        """

        def create_model_card(self, *_: Any, **__: Any) -> None:
            """Do nothing."""

        def create_scheduler(self, num_training_steps: int, *args: Any, **options: Any) -> Any:
            """Return the schedule, with a warm-up that fits the number of steps."""
            warmup = fitting_warmup(request.warmup_steps, num_training_steps)
            if warmup != request.warmup_steps:
                wished, of = request.warmup_steps, num_training_steps
                message = f"Warm-up of {warmup} steps, not {wished}: there are only {of}"
                context.event(EventType.LOG, {"level": "INFO", "message": message})
            self.args.warmup_steps = warmup
            return super().create_scheduler(num_training_steps, *args, **options)

    return Trainer


def _arguments(
    backend: Backend, request: TrainingParameters, folder: Path, *, evaluating: bool
) -> Any:
    import torch
    from trl import SFTConfig  # type: ignore[attr-defined]

    on_gpu = torch.cuda.is_available()
    stopping_early = request.early_stopping_patience is not None
    return SFTConfig(
        output_dir=str(folder),
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
        optim=backend.optimizer,
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
        # The examples have their labels and their length already; packing is done by TRL.
        dataset_kwargs=None if request.packing else {"skip_prepare_dataset": True},
        bf16=on_gpu and torch.cuda.is_bf16_supported(),
        fp16=on_gpu and not torch.cuda.is_bf16_supported(),
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
        include_num_input_tokens_seen="non_padding",
        report_to="none",
        disable_tqdm=True,
    )
