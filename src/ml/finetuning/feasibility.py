"""What of a request cannot work here, told from the model's files and the machine alone.

Neither torch nor transformers is loaded, so that a web worker can refuse before a job waits.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from ml.errors import ServiceError, UnprocessableInput
from ml.finetuning.backends.choice import choose_backend
from ml.finetuning.base_files import is_quantized, weight_shapes
from ml.finetuning.exports import check_tools, unmergeable
from ml.finetuning.request import TrainingParameters
from ml.finetuning.start import Start
from ml.models.gpu import gpu_in_sight
from ml.models.local_models import folder_here

__all__ = ["require_feasible"]


def require_feasible(request: TrainingParameters, start: Start) -> None:
    """Raise `UnprocessableInput` with everything that is known to fail in the job."""
    faults = [*_machine_faults(request), *_model_faults(request, start)]
    if faults:
        raise UnprocessableInput("; ".join(faults))


def _machine_faults(request: TrainingParameters) -> Iterator[str]:
    for check in (
        lambda: choose_backend(request, gpu=gpu_in_sight),
        lambda: check_tools(request.exports),
    ):
        try:
            check()
        except ServiceError as error:
            yield error.description


def _model_faults(request: TrainingParameters, start: Start) -> Iterator[str]:
    folder = folder_here(start.base)
    if folder is None:  # the hub's, not fetched yet: the job will tell
        return
    weights = weight_shapes(folder)
    if not weights:
        yield f"model_name: {start.base!r} has no weights as safetensors, the one form that is read"
        return
    if start.adapter is None and request.target_modules != "all-linear":
        yield from _target_faults(request.target_modules, weights)
    if is_quantized(folder):
        yield from _quantized_faults(request, start.base)


def _target_faults(targets: list[str], weights: dict[str, list[int]]) -> Iterator[str]:
    linears = {
        name.removesuffix(".weight")
        for name, shape in weights.items()
        if name.endswith(".weight") and len(shape) == 2 and not _is_embedding(name)
    }
    modules = {name.removesuffix(".weight") for name in weights}
    if not targets:
        yield 'target_modules: name at least one, or "all-linear"'
    for target in targets:
        if _named(target, linears):
            continue
        if _named(target, modules):
            reason = "is no linear layer, and only those are tuned"
        elif target == "lm_head":
            reason = "has no weights of its own here: they are the embedding's"
        else:
            known = sorted({name.rpartition(".")[2] for name in linears})
            reason = f"is none of the model's: {', '.join(known[:20])}"
        yield f"target_modules: {target!r} {reason}"


def _named(target: str, modules: set[str]) -> bool:
    """Return whether peft would find one: a target is a module's name, or the end of it."""
    return any(name == target or name.endswith(f".{target}") for name in modules)


def _is_embedding(name: str) -> bool:
    module = name.removesuffix(".weight").rpartition(".")[2]
    return "embed" in module or module in ("wte", "wpe")


def _quantized_faults(request: TrainingParameters, base: str) -> Iterator[str]:
    missing = importlib.util.find_spec("bitsandbytes") is None
    if missing or not gpu_in_sight():
        lacks = "bitsandbytes is not installed" if missing else "this machine shows no CUDA GPU"
        yield f"model_name: {base!r} has 4-bit weights, and {lacks}; name the one with 16-bit ones"
    elif request.exports and choose_backend(request, gpu=gpu_in_sight).backend.name != "unsloth":
        yield unmergeable(base)
