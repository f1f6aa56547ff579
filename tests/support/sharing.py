"""Workflows whose workers share what they import."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow

__all__ = ["Draws", "HangsInConstructor", "HangsInImport", "StartsThread"]


class Draws(BaseInferenceWorkflow):
    """Answers with its process and with random numbers of libraries that were imported before."""

    @property
    def shared_imports(self) -> Sequence[str]:
        return ("torch", "numpy.random")

    def do_run_model(self, data: Any) -> Any:
        import numpy as np
        import torch

        return {"pid": os.getpid(), "drawn": [torch.rand(1).item(), np.random.rand()]}


class StartsThread(BaseInferenceWorkflow):
    """Has a thread from the beginning on, and names modules that cannot be imported."""

    def __init__(self) -> None:
        super().__init__()
        threading.Thread(target=threading.Event().wait, daemon=True).start()

    @property
    def shared_imports(self) -> Sequence[str]:
        return ("tests.support.broken_module", "no_such_module", "colorsys")

    def do_run_model(self, data: Any) -> Any:
        return data


class HangsInImport(BaseInferenceWorkflow):
    """Shares a module whose import never ends."""

    @property
    def shared_imports(self) -> Sequence[str]:
        return ("tests.support.waiting_module",)

    def do_run_model(self, data: Any) -> Any:
        return data


class HangsInConstructor(BaseInferenceWorkflow):
    """Is never made; a file says in which process."""

    def __init__(self, journal: str) -> None:
        super().__init__(journal)
        Path(journal).write_text(str(os.getpid()))
        threading.Event().wait()

    def do_run_model(self, data: Any) -> Any:
        return data
