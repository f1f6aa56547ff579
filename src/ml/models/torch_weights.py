"""Weights without a model: state dicts, alone, within a checkpoint, or in a file of safetensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml.errors import ConfigurationError
from ml.models.tensor_model import unreadable

if TYPE_CHECKING:
    import torch

__all__ = ["SAFETENSORS", "StateDict", "fill", "read_safetensors", "state_dict_of"]

SAFETENSORS = ".safetensors"
#: Where training libraries put a state dict in their checkpoints.
_KEYS = ("state_dict", "model_state_dict", "model")
#: What wrappers put before names: torch's data parallel ones and torch.compile.
_PREFIXES = re.compile(r"^(?:module\.|_orig_mod\.)+")


def read_safetensors(path: Path, device: torch.device) -> dict[str, torch.Tensor]:
    """Return the tensors of a file. Raises `ConfigurationError` for one that is none."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device=str(device))
    except SafetensorError as error:
        raise unreadable(path, "safetensors", error) from error


@dataclass(frozen=True, slots=True)
class StateDict:
    """Tensors by name, and the key of a checkpoint that they are under."""

    tensors: Mapping[str, torch.Tensor]
    key: str | None = None


def state_dict_of(loaded: Any) -> StateDict | None:
    """Return the state dict that a file holds, None where it holds something else."""
    if isinstance(loaded, Mapping):
        for key in _KEYS:
            if _is_state_dict(loaded.get(key)):
                return StateDict(loaded[key], key)
    return StateDict(loaded) if _is_state_dict(loaded) else None


def fill(model: torch.nn.Module, weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Put weights into a model, whose wrappers in training may have prefixed their names.

    Raises `ConfigurationError` with the names that are missing, left over, or of other shapes.
    """
    wanted = model.state_dict()
    names = dict(weights)
    if not wanted.keys() <= names.keys():
        names = {_PREFIXES.sub("", name): tensor for name, tensor in weights.items()}
    both = {
        name: (list(names[name].shape), list(wanted[name].shape))
        for name in wanted
        if name in names
    }
    faults = {
        "not in the file": [name for name in wanted if name not in names],
        "not in the model": [name for name in names if name not in wanted],
        "of another shape": [
            f"{name} {one}, not {due}" for name, (one, due) in both.items() if one != due
        ],
    }
    told = [f"{what}: {_some(which)}" for what, which in faults.items() if which]
    if told:
        kind = type(model).__name__
        raise ConfigurationError(f"{path.name}: does not fit {kind}; {'; '.join(told)}")
    model.load_state_dict(names, assign=True)  # keeps the dtype that the file has


def _is_state_dict(value: Any) -> bool:
    import torch

    return (
        isinstance(value, Mapping)
        and bool(value)
        and any(isinstance(item, torch.Tensor) for item in value.values())
    )


def _some(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
