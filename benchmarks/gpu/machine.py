"""What machine it is measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

__all__ = ["machine", "versions"]

PACKAGES = ("torch", "transformers", "peft", "trl", "unsloth", "vllm", "numpy", "granian")


def machine(device: str) -> str:
    """Return the names of the card and its driver, and what else the machine does."""
    name = device
    if device == "cuda":
        import torch

        name = f"{torch.cuda.get_device_name()}, driver {_driver()}"
    return f"{name}, {os.cpu_count()} processors at a load of {os.getloadavg()[0]:.1f}"


def versions(device: str) -> dict[str, str]:
    """Return those of Python and of the packages."""
    found = {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}
    if device == "cuda":
        import torch

        found["torch"] += f" (CUDA {torch.version.cuda})"
    return found


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        return f"unknown: {error}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
