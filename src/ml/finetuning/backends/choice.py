"""Which backend trains a job, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ml.errors import UnprocessableInput
from ml.finetuning.backends.backend import Backend
from ml.finetuning.backends.trl_backend import TrlBackend
from ml.finetuning.backends.unsloth_backend import UnslothBackend
from ml.finetuning.request import TrainingParameters
from ml.models.gpu import gpu_in_use

__all__ = ["Choice", "choose_backend"]


@dataclass(frozen=True, slots=True)
class Choice:
    """A backend, and why it was taken, for the record."""

    backend: Backend
    reason: str


def choose_backend(
    request: TrainingParameters, *, dtype: str = "auto", gpu: Callable[[], bool] = gpu_in_use
) -> Choice:
    """Return the backend that was asked for; "auto" is Unsloth where it can be used, else TRL.

    Raises `UnprocessableInput` saying why none can be used. `dtype` is that of TRL's weights, `gpu`
    tells whether there is a CUDA GPU.
    """
    unsloth, trl = UnslothBackend(gpu), TrlBackend(dtype=dtype)
    if request.backend == "auto":
        refusal = unsloth.refusal(request)
        if refusal is None:
            return Choice(unsloth, "auto: Unsloth and a CUDA GPU are here")
        return _usable(trl, request, f"auto: Unsloth cannot be used here: {refusal}")
    asked: Backend = unsloth if request.backend == "unsloth" else trl
    return _usable(asked, request, "the request names it")


def _usable(backend: Backend, request: TrainingParameters, reason: str) -> Choice:
    refusal = backend.refusal(request)
    if refusal is not None:
        raise UnprocessableInput(f"backend {backend.name!r} cannot be used here: {refusal}")
    return Choice(backend, reason)
