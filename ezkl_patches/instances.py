"""The public values of a circuit among the instances of its proofs.

Source: the settings and proofs of ezkl 23.0.5. The instances are one column, always in the order
hashes of inputs | hash of parameters | public inputs | hashes of outputs | public outputs, with one
hash for each tensor. Private, fixed and committed values are not in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from ezkl_patches.field import dequantize, quantize, signed

__all__ = ["DataMismatch", "InstanceLayout", "PublicTensor", "PublicValues"]

Shape = tuple[int, ...]


class DataMismatch(ValueError):
    """Claimed data is not what a proof's instances say."""


@dataclass(frozen=True)
class PublicTensor:
    """A public tensor in the instances: its shape, and the power of two that scales its values."""

    shape: Shape
    scale: int

    @property
    def size(self) -> int:
        """How many instances it takes."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class PublicValues:
    """What a proof says publicly: numbers in C order, one tuple for each tensor, and hashes.

    What is not public is empty, or None for the one hash of the parameters.
    """

    inputs: tuple[tuple[float, ...], ...]
    outputs: tuple[tuple[float, ...], ...]
    input_hashes: tuple[int, ...]
    parameter_hash: int | None
    output_hashes: tuple[int, ...]


@dataclass(frozen=True)
class InstanceLayout:
    """Where inputs, outputs and hashes stand among a proof's instances.

    Attributes:
        inputs, outputs: the public tensors; none where they are private or hashed.
        input_hashes, parameter_hashes, output_hashes: how many hashes of each there are.
    """

    inputs: tuple[PublicTensor, ...]
    outputs: tuple[PublicTensor, ...]
    input_hashes: int = 0
    parameter_hashes: int = 0
    output_hashes: int = 0

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Return the layout of a circuit's settings, the JSON object that ezkl writes.

        Raises `ValueError` for settings that lack what it reads or say an unknown visibility.
        """
        try:
            run_args = settings["run_args"]
            kinds = [_kind(run_args[f"{name}_visibility"]) for name in ("input", "param", "output")]
            scales = settings["model_input_scales"], settings["model_output_scales"]
            counts = len(scales[0]), 1, len(scales[1])
            shapes = [tuple(shape) for shape in settings["model_instance_shapes"]]
        except (KeyError, TypeError) as error:
            raise ValueError(f"no settings of a circuit: {error} is missing or wrong") from None
        hashes = [n if kind == "hashed" else 0 for n, kind in zip(counts, kinds, strict=True)]
        public_inputs = counts[0] if kinds[0] == "public" else 0
        public_outputs = counts[2] if kinds[2] == "public" else 0
        if len(shapes) != public_inputs + public_outputs:
            raise ValueError("model_instance_shapes: not one shape for each public tensor")
        return cls(
            tuple(map(PublicTensor, shapes[:public_inputs], scales[0])),
            tuple(map(PublicTensor, shapes[public_inputs:], scales[1])),
            *hashes,
        )

    @property
    def input_offset(self) -> int:
        """The position of the first public input."""
        return self.input_hashes + self.parameter_hashes

    @property
    def output_offset(self) -> int:
        """The position of the first public output."""
        return self.input_offset + sum(t.size for t in self.inputs) + self.output_hashes

    @property
    def total(self) -> int:
        """How many instances a proof has."""
        return self.output_offset + sum(tensor.size for tensor in self.outputs)

    def decode(self, instances: Sequence[int]) -> PublicValues:
        """Return the values of a proof's instances. Raises `ValueError` for another number."""
        self._require_total(instances)
        hashes_end = self.output_offset
        return PublicValues(
            inputs=_numbers(instances, self.inputs, self.input_offset),
            outputs=_numbers(instances, self.outputs, self.output_offset),
            input_hashes=tuple(instances[: self.input_hashes]),
            parameter_hash=instances[self.input_hashes] if self.parameter_hashes else None,
            output_hashes=tuple(instances[hashes_end - self.output_hashes : hashes_end]),
        )

    def check_inputs(
        self,
        instances: Sequence[int],
        claimed: Sequence[Sequence[float]],
        *,
        tolerance_quanta: int = 0,
    ) -> None:
        """Raise `DataMismatch` unless the proof speaks of these inputs, flat for each tensor.

        A quantum is 2**-scale. Without tolerance, numbers for a float32 model have to be rounded
        to float32 first; otherwise large ones differ by some quanta.
        """
        self._require_total(instances)
        self._check("input", self.inputs, self.input_offset, instances, claimed, tolerance_quanta)

    def check_outputs(
        self,
        instances: Sequence[int],
        claimed: Sequence[Sequence[float]],
        *,
        tolerance_quanta: int = 0,
    ) -> None:
        """Raise `DataMismatch` unless the proof speaks of these outputs; as `check_inputs`."""
        self._require_total(instances)
        offset = self.output_offset
        self._check("output", self.outputs, offset, instances, claimed, tolerance_quanta)

    def _check(
        self,
        name: str,
        tensors: Sequence[PublicTensor],
        offset: int,
        instances: Sequence[int],
        claimed: Sequence[Sequence[float]],
        tolerance_quanta: int,
    ) -> None:
        if len(claimed) != len(tensors):
            raise DataMismatch(f"the proof has {len(tensors)} public {name}s; given {len(claimed)}")
        for number, (tensor, values) in enumerate(zip(tensors, claimed, strict=True)):
            if len(values) != tensor.size:
                raise DataMismatch(f"{name} {number} has {tensor.size} values; given {len(values)}")
            for position, value in enumerate(values):
                attested = signed(instances[offset + position])
                if abs(quantize(value, tensor.scale) - attested) > tolerance_quanta:
                    raise DataMismatch(
                        f"{name} {number}, value {position}: claimed {value}, "
                        f"the proof says {dequantize(attested, tensor.scale)}"
                    )
            offset += tensor.size

    def _require_total(self, instances: Sequence[int]) -> None:
        if len(instances) != self.total:
            raise ValueError(f"expected {self.total} instances; given {len(instances)}")


def _kind(visibility: Any) -> str:
    if isinstance(visibility, dict) and set(visibility) == {"Hashed"}:
        if visibility["Hashed"].get("hash_is_public") is True:
            return "hashed"
    elif visibility in ("Public", "Private", "Fixed", "KZGCommit"):
        return str(visibility).lower()
    raise ValueError(f"unknown visibility: {visibility}")


def _numbers(
    instances: Sequence[int], tensors: Sequence[PublicTensor], offset: int
) -> tuple[tuple[float, ...], ...]:
    values = []
    for tensor in tensors:
        part = instances[offset : offset + tensor.size]
        values.append(tuple(dequantize(element, tensor.scale) for element in part))
        offset += tensor.size
    return tuple(values)
