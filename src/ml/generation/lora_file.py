"""A LoRA adapter as peft saves it: read, and checked against the model that it is to serve with.

Format: `adapter_config.json` and `adapter_model.safetensors` of `PeftModel.save_pretrained`. The
older `adapter_model.bin` is a pickle, which can run code, and is never read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors.torch import load as parse_safetensors

from ml.errors import InvalidInput, describe_faults
from ml.generation.lora_config import LoraConfig

__all__ = ["CONFIG_FILE", "WEIGHTS_FILE", "Lora", "LoraFile", "Pair"]

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"

_TENSOR_NAME = re.compile(r"base_model\.model\.(.+)\.lora_(A|B)\.weight")
#: No configuration is as long, and no header of a weights file has as much for each module.
_CONFIG_BYTES, _HEADER_BYTES_OF_A_MODULE = 1_000_000, 2_000
_MOST_BYTES_OF_A_NUMBER = 8

#: A of shape `(rank, in_features)` and B of shape `(rank, out_features)`.
Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Lora:
    """An adapter: by module name the A and B with which the module adds `x @ A.T @ B`.

    B is transposed and has the scaling in it.
    """

    pairs: dict[str, Pair]

    @property
    def rank(self) -> int:
        """The largest rank of its modules."""
        return max(len(a) for a, _ in self.pairs.values())


@dataclass(frozen=True, slots=True)
class LoraFile:
    """The folder of an adapter, links resolved. Errors have its `name` and no path."""

    name: str
    folder: Path

    def version(self) -> tuple[tuple[int, int], ...]:
        """Return what changes when the adapter is saved again: times and sizes of its files.

        Raises `InvalidInput` if one of them is missing.
        """
        return tuple(self._stat(file) for file in (CONFIG_FILE, WEIGHTS_FILE))

    def read(
        self, features: Mapping[str, tuple[int, int]], *, max_rank: int, dtype: torch.dtype
    ) -> Lora:
        """Return the adapter in a dtype, for a model whose linear layers have these features.

        `features` gives `(in_features, out_features)` by module name. Raises `InvalidInput` saying
        what does not fit.
        """
        config = self.require_servable(max_rank)
        tensors = self._read_tensors(features, max_rank)
        modules: dict[str, dict[str, torch.Tensor]] = {}
        for key, tensor in sorted(tensors.items()):
            match = _TENSOR_NAME.fullmatch(key)
            if match is None:
                raise self._fault(f"{key!r} is not the A or B of a linear layer")
            if match[1] not in features:
                raise self._fault(
                    f"it was trained for another model: this one has no linear layer {match[1]}"
                )
            modules.setdefault(match[1], {})[match[2]] = tensor
        if not modules:
            raise self._fault(f"{WEIGHTS_FILE} is empty")
        pairs = {}
        for module, found in modules.items():
            self._check(module, found, config.rank_of(module), features[module])
            pairs[module] = self._pair(module, found, config.scaling_of(module), dtype)
        return Lora(pairs)

    def require_servable(self, max_rank: int) -> LoraConfig:
        """Return its configuration. Raises `InvalidInput` for one that cannot be served."""
        config = self._read_config()
        for fault in config.faults(max_rank):
            raise self._fault(fault)
        return config

    def _read_config(self) -> LoraConfig:
        data = self._read_bytes(CONFIG_FILE, at_most=_CONFIG_BYTES)
        try:
            return LoraConfig.model_validate_json(data)
        except ValidationError as error:
            raise self._fault(f"{CONFIG_FILE}: {describe_faults(error)}") from None

    def _read_tensors(
        self, features: Mapping[str, tuple[int, int]], max_rank: int
    ) -> dict[str, torch.Tensor]:
        numbers = max_rank * sum(map(sum, features.values()))
        most = numbers * _MOST_BYTES_OF_A_NUMBER + len(features) * _HEADER_BYTES_OF_A_MODULE
        data = self._read_bytes(WEIGHTS_FILE, at_most=most)
        try:
            return parse_safetensors(data)
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise self._fault(f"{WEIGHTS_FILE} is damaged or incomplete: {reason}") from error

    def _check(
        self, module: str, found: dict[str, torch.Tensor], rank: int, features: tuple[int, int]
    ) -> None:
        shapes = {"A": [rank, features[0]], "B": [features[1], rank]}
        for letter, shape in shapes.items():
            if letter not in found:
                raise self._fault(f"lora_{letter} of {module} is missing")
            has = list(found[letter].shape)
            if has == shape:
                continue
            position = 0 if letter == "A" else 1
            if len(has) == 2 and has[1 - position] == shape[1 - position]:
                raise self._fault(
                    f"lora_{letter} of {module} has rank {has[position]}, but {CONFIG_FILE} says "
                    f"{rank}"
                )
            raise self._fault(
                f"it was trained for another model: lora_{letter} of {module} has shape {has}, "
                f"the model's is {shape}"
            )

    def _pair(
        self, module: str, found: dict[str, torch.Tensor], scaling: float, dtype: torch.dtype
    ) -> Pair:
        if not all(tensor.is_floating_point() for tensor in found.values()):
            raise self._fault(f"the weights of {module} are no floating-point numbers")
        a = found["A"].to(dtype)
        b = (found["B"].float() * scaling).T.contiguous().to(dtype)
        # Rows share the products of one batch, where 0 times infinity would reach other requests.
        if not (a.isfinite().all() and b.isfinite().all()):
            raise self._fault(f"the weights of {module} are not all finite in {dtype}")
        return a, b

    def _read_bytes(self, file: str, *, at_most: int) -> bytes:
        _, size = self._stat(file)
        if size > at_most:
            raise self._fault(f"{file} has {size} bytes; for this model {at_most} are the most")
        try:
            # Not mapped into memory: a file that is overwritten meanwhile would end the process.
            return (self.folder / file).read_bytes()
        except OSError as error:
            raise self._fault(f"{file} cannot be read: {error.strerror}") from error

    def _stat(self, file: str) -> tuple[int, int]:
        path = self.folder / file
        try:
            inside = self.folder in path.resolve(strict=True).parents and path.is_file()
            stat = path.stat()
        except (OSError, RuntimeError):  # the latter for a loop of links, before Python 3.13
            inside = False
        if not inside:
            raise self._fault(f"its folder holds no {file}")
        return stat.st_mtime_ns, stat.st_size

    def _fault(self, reason: str) -> InvalidInput:
        return InvalidInput(f"adapter {self.name!r}: {reason}")
