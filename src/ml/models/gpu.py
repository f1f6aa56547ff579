"""Whether there is a CUDA GPU: as torch knows it, and as it looks without torch."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["gpu_in_sight", "gpu_in_use"]


def gpu_in_use() -> bool:
    """Return whether torch can use one; this loads torch."""
    import torch

    return torch.cuda.is_available()


def gpu_in_sight() -> bool:
    """Return whether the driver shows this process one; nothing is loaded."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return False
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()
