"""Torch model files, loaded without running what they say, unless that is asked for.

What loading a file may do:

- a module saved by `torch.save(model, path)`: build objects of allowed classes only, which are
  tensors, the layers of `torch.nn`, and `safe_classes`;
- the same with `allow_pickle`: anything, because a pickle names the functions to call;
- TorchScript, with `use_jit`: nothing in Python, but its forward is a program for torch's own
  interpreter, whose operators can read and write files;
- weights alone, a state dict or a file of safetensors, with the `model_class` that they are of:
  what that class does, which is the operator's own;
- `.pt2` of `torch.export.save`: anything. torch unpickles parts of the archive without limits,
  evaluates its shape expressions as Python and looks up its operators in any module that torch
  imports; so it is refused without `allow_pickle`.

Sources: the documentation of `torch.load` and `torch.export.load`, PyTorch's security policy, and
the code of torch 2.13 (`torch/export/pt2_archive/_package.py`, `torch/_export/serde/serialize.py`).
"""

from __future__ import annotations

import importlib
import re
import threading
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from ml.errors import ConfigurationError
from ml.models.tensor_model import unreadable
from ml.models.torch_weights import SAFETENSORS, fill, read_safetensors, state_dict_of

if TYPE_CHECKING:
    import torch

__all__ = ["TorchFile"]

#: What is allowed, and what is warned of, holds for all threads of the process.
_LOADING = threading.Lock()
_REFUSED_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_HOW_TO_SAVE = "save the whole model with torch.save(model, path), or as TorchScript for use_jit"
_WEIGHTS_ALONE = (
    f"weights without a model; set model_class to the class of theirs, or {_HOW_TO_SAVE}"
)


@dataclass(frozen=True)
class TorchFile:
    """How model files are loaded.

    Attributes:
        use_jit: the file is TorchScript.
        safe_classes: dotted paths of classes and functions that a pickled model may use, besides
            the layers of `torch.nn`. A class is trusted with all its constructor does.
        allow_pickle: let the file run whatever it says; only for files that you trust.
        mmap: the weights of a pickled model stay in the file, mapped into memory, as those of
            safetensors do. Processes share them; who writes to the file changes or ends them.
        model_class: dotted path of the class of the model that the file has the weights of.
        model_class_args: its keyword arguments.
    """

    use_jit: bool = False
    safe_classes: tuple[str, ...] = ()
    allow_pickle: bool = False
    mmap: bool = False
    model_class: str | None = None
    model_class_args: Mapping[str, Any] = field(default_factory=dict)

    def load(self, path: Path, device: torch.device) -> torch.nn.Module:
        """Return the model on a device, in evaluation mode.

        Raises `ConfigurationError` for a file that is no model, holds weights without a model, or
        needs a class that is not allowed, and says what can be done about it.
        """
        if path.suffix == ".pt2":
            return self._load_exported(path, device)
        if path.suffix == SAFETENSORS:
            model = self._filled(path, read_safetensors(path, device))
        else:
            model = self._load_script(path, device) if self.use_jit else self._load(path, device)
        return model.eval().to(device)

    def _load(self, path: Path, device: torch.device) -> torch.nn.Module:
        import torch

        if _is_torchscript(path):
            raise ConfigurationError(
                f"{path.name}: this is TorchScript; set use_jit (USE_JIT=true)"
            )
        with _LOADING, torch.serialization.safe_globals(self._allowed()):
            try:
                loaded = torch.load(
                    path,
                    map_location=device,
                    weights_only=not self.allow_pickle,
                    mmap=self.mmap and zipfile.is_zipfile(path),  # else one of before torch 1.6
                )
            except UnpicklingError as error:
                raise self._refusal(path, error) from error
            except Exception as error:
                raise _unreadable(path, "a model file of torch.save", error) from error
        if self.model_class is not None:
            return self._filled(path, loaded)
        return _require_module(path, loaded)

    def _load_script(self, path: Path, device: torch.device) -> torch.nn.Module:
        import torch

        if not _is_torchscript(path):
            raise ConfigurationError(f"{path.name}: use_jit is set, but this is not TorchScript")
        with _LOADING, warnings.catch_warnings():
            # The operator who sets use_jit has such a file; the advice is for who makes new ones.
            warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", DeprecationWarning)
            try:
                return torch.jit.load(path, map_location=device)  # type: ignore[no-any-return, no-untyped-call]
            except Exception as error:
                raise _unreadable(path, "TorchScript", error) from error

    def _load_exported(self, path: Path, device: torch.device) -> torch.nn.Module:
        if not self.allow_pickle:
            raise ConfigurationError(
                f"{path.name}: loading a .pt2 file can run code that is in the file; set "
                "allow_pickle for one that you trust"
            )
        import torch
        from torch.export.passes import move_to_device_pass

        try:
            program = torch.export.load(path)
        except Exception as error:
            raise _unreadable(path, "an archive of torch.export", error) from error
        if device.type != "cpu":  # its graph names devices too, which Module.to() leaves alone
            program = move_to_device_pass(program, device)
        return program.module()  # always in the mode it was exported in

    def _filled(self, path: Path, loaded: Any) -> torch.nn.Module:
        import torch

        if self.model_class is None:
            raise ConfigurationError(f"{path.name}: {_WEIGHTS_ALONE}")
        found = state_dict_of(loaded)
        if found is None:
            raise ConfigurationError(
                f"{path.name}: model_class is set, but this holds no weights for it: an object of "
                f"type {type(loaded).__name__}"
            )
        kind = _find(self.model_class, "model_class")
        try:
            model = kind(**self.model_class_args)
        except Exception as error:
            raise ConfigurationError(
                f"model_class: {self.model_class} cannot be made with model_class_args: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(model, torch.nn.Module):
            raise ConfigurationError(f"model_class: {self.model_class} is no torch.nn.Module")
        fill(model, found.tensors, path)
        return model

    def _allowed(self) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
        return [*_torch_layers(), *(_find(path, "safe_classes") for path in self.safe_classes)]

    def _refusal(self, path: Path, error: UnpicklingError) -> ConfigurationError:
        names = _refused_globals(path) or _REFUSED_GLOBAL.findall(str(error))
        if not names:
            return _unreadable(path, "a model file of torch.save", error)
        refused = ", ".join(sorted(set(names)))
        return ConfigurationError(
            f"{path.name}: the file uses {refused}, which is not allowed. If you trust it, add it "
            "to safe_classes, or set allow_pickle to let the file run any code."
        )


def _torch_layers() -> list[Any]:
    """Return what a pickled model of `torch.nn` layers legitimately names."""
    from torch import nn
    from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

    layers = [
        value
        for value in vars(nn).values()
        if isinstance(value, type)
        and issubclass(value, nn.Module)
        # Lazy layers replace their class and hooks while loading; data-parallel ones start threads.
        and value.__module__.startswith("torch.nn.modules.")
        and not value.__name__.startswith("Lazy")
    ]
    # In multi-head attention, and the activations that transformer layers keep as functions.
    functions = [nn.functional.relu, nn.functional.silu, (nn.functional.gelu, "torch._C._nn.gelu")]
    return [*layers, NonDynamicallyQuantizableLinear, *functions]


def _find(dotted_path: str, argument: str) -> Any:
    module_name, _, name = dotted_path.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"{argument}: {dotted_path!r} not found: {error}") from error


def _refused_globals(path: Path) -> Sequence[str]:
    """Return all names that are not allowed, not only the first, where the file can be scanned."""
    from torch.serialization import get_unsafe_globals_in_checkpoint

    try:
        return get_unsafe_globals_in_checkpoint(path)
    except Exception:  # not of today's format; the first name is in the message then
        return ()


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except Exception:  # of whichever kind: no archive, or a damaged one, which torch tells of
        return False


def _require_module(path: Path, loaded: Any) -> torch.nn.Module:
    import torch

    if isinstance(loaded, torch.nn.Module):
        return loaded
    if (found := state_dict_of(loaded)) is not None:
        kind = (
            f"a checkpoint, with a state dict under {found.key!r}" if found.key else "a state dict"
        )
        raise ConfigurationError(f"{path.name}: this is {kind}: {_WEIGHTS_ALONE}")
    raise ConfigurationError(
        f"{path.name}: this holds an object of type {type(loaded).__name__}, not a model; "
        f"{_HOW_TO_SAVE}"
    )


def _unreadable(path: Path, kind: str, error: Exception) -> ConfigurationError:
    if isinstance(error, UnpicklingError):  # torch's first lines are advice to switch safety off
        error = UnpicklingError("it is damaged, or was not written by torch.save")
    return unreadable(path, kind, error)
