"""A run's numbers on their way to trackers, which must not keep the run from going on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from transformers import TrainerCallback

__all__ = ["Tracking", "trackers_of"]


class Tracking(TrainerCallback):
    """One of transformers' integrations, which is left out of the run once it fails.

    Why it failed is told by the kind of error alone: its text may hold an address with a password.
    """

    def __init__(
        self, name: str, make: Callable[[], TrainerCallback], warn: Callable[[str], None]
    ) -> None:
        self._name = name
        self._make = make
        self._warn = warn
        self._tracker: TrainerCallback | None = None
        self._failed = False

    def on_train_begin(self, *given: Any, **more: Any) -> None:
        """Begin a run there, or go on with it."""
        self._tell("on_train_begin", given, more)

    def on_log(self, *given: Any, **more: Any) -> None:
        """Tell numbers."""
        self._tell("on_log", given, more)

    def on_save(self, *given: Any, **more: Any) -> None:
        """Tell of a checkpoint."""
        self._tell("on_save", given, more)

    def on_train_end(self, *given: Any, **more: Any) -> None:
        """End the run there."""
        self._tell("on_train_end", given, more)

    def _tell(self, event: str, given: Sequence[Any], more: dict[str, Any]) -> None:
        if self._failed:
            return
        try:
            if self._tracker is None:
                self._tracker = self._make()
            getattr(self._tracker, event)(*given, **more)
        except Exception as error:
            self._failed = True
            self._warn(
                f"{self._name} could not be told ({type(error).__name__}) and gets no more numbers "
                "of this attempt; the training goes on"
            )


def trackers_of(
    names: Sequence[str], warn: Callable[[str], None], *, after_step: int
) -> list[TrainerCallback]:
    """Return a callback for each tracker; what they know of steps after that one is replaced."""
    return [Tracking(name, _maker(name, after_step), warn) for name in dict.fromkeys(names)]


def _maker(name: str, after_step: int) -> Callable[[], TrainerCallback]:
    def make() -> TrainerCallback:
        from transformers.integrations.integration_utils import get_reporting_integration_callbacks

        [kind] = get_reporting_integration_callbacks([name])
        tracker: TrainerCallback = kind()
        if name == "tensorboard" and after_step:
            _forget_later(tracker, after_step)
        return tracker

    return make


def _forget_later(tracker: Any, step: int) -> None:
    """Have TensorBoard leave out what an earlier attempt told of later steps."""
    from torch.utils.tensorboard import SummaryWriter

    tracker.tb_writer = SummaryWriter(log_dir=tracker.logging_dir, purge_step=step + 1)
