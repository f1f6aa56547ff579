"""What a service has of its own that a run may be started from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ml.finetuning.data.input_files import InputFile, first_files, input_files
from ml.finetuning.settings import TrainerSettings
from ml.finetuning.start import tuned_models
from ml.models.local_models import models_here

if TYPE_CHECKING:
    from ml.finetuning.shared_files import SharedFiles

__all__ = ["Offer"]


@dataclass(frozen=True)
class Offer:
    """The data and models of a service, with `shared` where its hosts share no folder."""

    settings: TrainerSettings
    shared: SharedFiles | None

    def files(self) -> tuple[list[InputFile], bool]:
        """Return the files that may be training data, and whether they are all."""
        if self.shared is not None:
            return first_files(self.shared.input_files())
        return input_files(self.settings.input_path)

    def models(self) -> dict[str, list[str]]:
        """Return the names of models on this machine, and of tuned ones, that jobs may start from.

        Where `allowed_models` says, it is those and what was made of them.
        """
        allowed = self.settings.allowed_models
        if self.shared is not None:  # they are not here, and so their bases are not known
            tuned = sorted(self.shared.models.names())
        else:
            starts = tuned_models(self.settings.output_path)
            tuned = [name for name, one in starts.items() if not allowed or one.base in allowed]
        return {"base": list(allowed) or models_here(), "tuned": tuned}
