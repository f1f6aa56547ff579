"""What happens between the steps of a run: numbers are told, checkpoints kept, requests heeded."""

from __future__ import annotations

import math
import os
import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from ml.finetuning.checkpoints import Checkpoints
from ml.finetuning.failures import TrainingFailed
from ml.finetuning.loss_watch import LossWatch
from ml.finetuning.outcome import evaluations_since_best
from ml.finetuning.process_group import any_worker, wait_for_all
from ml.finetuning.run_log import RunLog
from ml.jobs.context import JobContext
from ml.jobs.event_type import EventType
from ml.jobs.memory import resident_bytes

__all__ = [
    "CheckpointKeeper",
    "EarlyStopping",
    "LastStep",
    "Reporter",
    "StopOnRequest",
    "WaitForAll",
]


class Reporter(TrainerCallback):
    """Tells the job's watchers and the run's files the numbers of each logged step.

    The record keeps what is known of the `data` beside the newest of them.
    Raises `TrainingFailed` at a loss that is no finite number.
    """

    def __init__(
        self, context: JobContext, log: RunLog, *, learning_rate: float, data: dict[str, Any]
    ) -> None:
        self._context = context
        self._data = data
        self._log = log
        self._learning_rate = learning_rate
        self._began = self._step_began = 0.0
        self._first_step = 0
        self._step_times: list[float] = []
        #: The newest numbers of a training step.
        self.numbers: dict[str, Any] = {}
        self._watch = LossWatch()

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Start the clock, and forget what was written after the step that the run goes on from."""
        self._began = time.monotonic()
        self._first_step = state.global_step
        self._log.begin(after_step=state.global_step)
        for entry in state.log_history:  # of the attempts before
            if "loss" in entry:
                self._watch.warning(float(entry["loss"]))

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note when the step began."""
        self._step_began = time.monotonic()

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Note how long the step took."""
        self._step_times.append(time.monotonic() - self._step_began)

    def on_log(
        self,
        args: Any,
        state: TrainerState,
        control: Any,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Tell the numbers of a step or of an evaluation; a run's closing summary is neither."""
        logs = logs or {}
        if "loss" in logs:
            self._tell_step(state, logs)
        elif "eval_loss" in logs:
            self._tell_evaluation(state, logs)

    def _tell_step(self, state: TrainerState, logs: dict[str, Any]) -> None:
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise TrainingFailed(
                f"the loss became {loss} at step {state.global_step}: lower learning_rate (now "
                f"{self._learning_rate:g}) or max_grad_norm, or raise warmup_steps"
            )
        times = self._step_times or [0.0]
        self.numbers = {
            **self._position(state),
            "loss": loss,
            "learning_rate": logs.get("learning_rate"),
            "grad_norm": _finite(logs.get("grad_norm")),
            "step_time": round(sum(times) / len(times), 4),
            **_accuracy(logs, "mean_token_accuracy", "token_accuracy"),
            **_memory(),
        }
        self._step_times = []
        self._log.add_step(self.numbers)
        self._tell(self.numbers)
        if warning := self._watch.warning(loss):
            message = f"{warning}; if it goes on: lower learning_rate (now {self._learning_rate:g})"
            self._context.event(EventType.LOG, {"level": "WARNING", "message": message})

    def _tell_evaluation(self, state: TrainerState, logs: dict[str, Any]) -> None:
        numbers = {
            **self._position(state),
            "eval_loss": _finite(logs["eval_loss"]),
            **_accuracy(logs, "eval_mean_token_accuracy", "eval_token_accuracy"),
        }
        self._log.add_evaluation(numbers)
        self.numbers = {**self.numbers, **numbers}
        self._tell(self.numbers)

    def _tell(self, numbers: dict[str, Any]) -> None:
        self._context.event(EventType.PROGRESS, numbers)
        self._context.progress(**numbers, data=self._data)

    def _position(self, state: TrainerState) -> dict[str, Any]:
        done = state.global_step - self._first_step
        each = (time.monotonic() - self._began) / done if done else 0.0
        total = state.max_steps
        return {
            "progress": round(100 * state.global_step / total, 2),
            "step": state.global_step,
            "total_steps": total,
            "epoch": round(state.epoch or 0.0, 4),
            "eta_seconds": round(each * (total - state.global_step), 1),
        }


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _memory() -> dict[str, int]:
    """Return what the job holds of memory: its processes, and torch on this process's GPU."""
    import torch

    numbers = {"memory_bytes": resident_bytes(os.getpid())}
    if torch.cuda.is_available():
        numbers["gpu_memory_bytes"] = torch.cuda.memory_reserved()
    return numbers


def _accuracy(logs: dict[str, Any], name: str, ours: str) -> dict[str, float | None]:
    """Return the share of tokens that were the likeliest ones, where the loss in use tells it."""
    return {ours: _finite(logs[name])} if name in logs else {}


class LastStep(TrainerCallback):
    """Has what is saved, and the last step, always told.

    The last step is evaluated, too, where there is anything to validate with.
    """

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for it."""
        if state.global_step >= state.max_steps and args.eval_strategy != "no":
            control.should_evaluate = True
        if control.should_save or state.global_step >= state.max_steps:
            control.should_log = True


class StopOnRequest(TrainerCallback):
    """Ends the run after a step, with a checkpoint, when its job is asked to stop.

    Only the job's own process knows that, which has the context; all workers end with it.
    """

    def __init__(self, context: JobContext | None) -> None:
        self._context = context

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **_: Any) -> None:
        """Ask whether to stop."""
        if any_worker(self._context is not None and self._context.stop_request() is not None):
            control.should_training_stop = True
            control.should_save = True


class WaitForAll(TrainerCallback):
    """Lets no worker go on before each has written its part of a checkpoint."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Wait."""
        wait_for_all()


class CheckpointKeeper(TrainerCallback):
    """Marks each checkpoint as complete once it is, and then makes room for the next.

    The Trainer's own rotation deletes the old one before the new one can be marked.
    """

    def __init__(self, checkpoints: Checkpoints, context: JobContext, reporter: Reporter) -> None:
        self._checkpoints = checkpoints
        self._context = context
        self._reporter = reporter

    def on_save(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Mark and rotate. Raises `TrainingFailed` rather than keep weights that are not finite."""
        trained = (p for p in kwargs["model"].parameters() if p.requires_grad)
        if not all(parameter.isfinite().all() for parameter in trained):
            raise TrainingFailed(
                f"the adapter's weights are no finite numbers at step {state.global_step}: lower "
                f"learning_rate (now {args.learning_rate:g})"
            )
        self._checkpoints.mark_complete(state.global_step, self._reporter.numbers)
        self._checkpoints.rotate(best_step=state.best_global_step)
        message = f"Checkpoint of step {state.global_step} saved"
        self._context.event(EventType.LOG, {"level": "INFO", "message": message})


class EarlyStopping(TrainerCallback):
    """Ends the run after `patience` evaluations without a better loss.

    It counts in the run's history, which a checkpoint holds, and so resumes exactly.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Count the evaluations since the best one."""
        losses = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
        if evaluations_since_best(losses) >= self._patience:
            control.should_training_stop = True
            control.should_save = True
