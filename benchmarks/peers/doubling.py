"""A model that takes no time: what is left is the way of its tensors."""

from __future__ import annotations

from typing import Any

from ml.workflows.inference.base_classic_ml_inference_workflow import (
    BaseClassicMLInferenceWorkflow,
)


class Doubling(BaseClassicMLInferenceWorkflow):
    """Answers twice what it is given."""

    def do_run_model(self, preprocessed_data: Any) -> Any:
        """Return twice the array."""
        return 2 * preprocessed_data
