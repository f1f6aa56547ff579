"""What a run began with, kept in its job's folder: going on with anything else is another run."""

from __future__ import annotations

import json
from pathlib import Path

from ml.finetuning.failures import TrainingFailed

__all__ = ["RunFacts"]


class RunFacts:
    """Names and values in a file; `agree` holds new ones against them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self) -> None:
        """Forget an earlier run, of which no checkpoint is left."""
        self._path.unlink(missing_ok=True)

    def known(self) -> dict[str, str]:
        """Return what is known."""
        return dict(json.loads(self._path.read_text())) if self._path.exists() else {}

    def agree(self, **facts: str) -> None:
        """Keep facts. Raises `TrainingFailed` naming those that differ from what is known."""
        known = self.known()
        changed = [name for name in facts if known.get(name, facts[name]) != facts[name]]
        if changed:
            was = ", ".join(f"{name} was {known[name]}, is {facts[name]}" for name in changed)
            raise TrainingFailed(
                f"the job cannot go on from its checkpoint: {was}; start a new job instead"
            )
        scratch = self._path.with_suffix(".new")
        scratch.write_text(json.dumps({**known, **facts}))
        scratch.replace(self._path)
