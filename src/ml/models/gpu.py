"""The CUDA GPUs that there are: as torch knows it, and as it looks without torch."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["gpu_in_sight", "gpu_in_use", "gpus_in_sight", "gpus_in_use"]


def gpu_in_use() -> bool:
    """Return whether torch can use one; this loads torch."""
    import torch

    return torch.cuda.is_available()


def gpus_in_use() -> int:
    """Return how many torch can use; this loads torch."""
    import torch

    return torch.cuda.device_count()


def gpu_in_sight() -> bool:
    """Return whether the driver shows this process one; nothing is loaded."""
    return gpus_in_sight() > 0


def gpus_in_sight() -> int:
    """Return how many the driver shows this process; nothing is loaded."""
    devices = len(list(Path("/dev").glob("nvidia[0-9]*"))) or int(Path("/dev/dxg").exists())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return devices
    return min(devices, 0 if visible.strip() in ("", "-1") else len(visible.split(",")))
