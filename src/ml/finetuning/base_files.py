"""What the files of a base model say of its weights, without loading them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["is_quantized", "weight_shapes"]

_MOST_HEADER_BYTES = 100_000_000


def weight_shapes(folder: Path) -> dict[str, list[int]]:
    """Return the shapes of all weights in safetensors by their names.

    A file begins with the length of a JSON header, 8 bytes, little-endian.
    https://huggingface.co/docs/safetensors
    """
    found: dict[str, list[int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(min(length, _MOST_HEADER_BYTES)))
            found |= {k: v["shape"] for k, v in header.items() if k != "__metadata__"}
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged: the job will tell
    return found


def is_quantized(folder: Path) -> bool:
    """Return whether the weights are bitsandbytes' of 4 or 8 bits."""
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return False
    quantization = config.get("quantization_config") or {}
    return str(quantization.get("quant_method", "")).startswith("bitsandbytes")
