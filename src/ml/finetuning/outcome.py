"""What a run came to, as its last checkpoint tells."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml.finetuning.checkpoints import Checkpoints
from ml.finetuning.request import TrainingParameters

__all__ = ["Outcome", "evaluations_since_best", "outcome_of"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. Losses are those that were logged.

    Attributes:
        adapter: the folder of the checkpoint with the weights to keep.
        adapter_step: the last step, or the best one when early stopping was asked for.
        trained_tokens: tokens that the model was shown while it trained, prompts among them.
        stopped_early: whether it ended because evaluations no longer improved.
    """

    adapter: Path
    adapter_step: int
    steps: int
    epochs: float
    trained_tokens: int
    stopped_early: bool
    loss_first: float | None
    loss_last: float | None
    loss_best: float | None
    eval_loss_last: float | None
    eval_loss_best: float | None

    def data(self) -> dict[str, Any]:
        """Return its numbers as plain data."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "adapter"}


def outcome_of(checkpoints: Checkpoints, request: TrainingParameters) -> Outcome | None:
    """Return what the newest complete checkpoint says; None if the run is to go on from it."""
    newest = checkpoints.newest()
    if newest is None:
        return None
    state = json.loads((newest.folder / "trainer_state.json").read_text())
    history, steps = state["log_history"], state["global_step"]
    losses = [entry["loss"] for entry in history if "loss" in entry]
    evaluations = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    patience = request.early_stopping_patience
    over_patience = patience is not None and evaluations_since_best(evaluations) >= patience
    if steps < state["max_steps"] and not over_patience:
        return None
    adapter_step = steps
    if patience is not None and state["best_global_step"]:
        adapter_step = state["best_global_step"]
    return Outcome(
        adapter=checkpoints.folder / f"checkpoint-{adapter_step}",
        adapter_step=adapter_step,
        steps=steps,
        epochs=round(state["epoch"], 4),
        trained_tokens=state["num_input_tokens_seen"],
        stopped_early=steps < state["max_steps"],
        loss_first=losses[0] if losses else None,
        loss_last=losses[-1] if losses else None,
        loss_best=min(losses, default=None),
        eval_loss_last=evaluations[-1] if evaluations else None,
        eval_loss_best=min(evaluations, default=None),
    )


def evaluations_since_best(losses: list[float]) -> int:
    """Return how many evaluations came after the one with the lowest loss."""
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0
