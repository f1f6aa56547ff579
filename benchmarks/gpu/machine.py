"""What machine it is measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

__all__ = ["machine"]

PACKAGES = ("torch", "transformers", "peft", "trl", "numpy", "granian")


def machine(device: str) -> dict[str, str]:
    """Return the names of the card, its driver and the packages."""
    facts = {"device": device, "processors": str(os.cpu_count()), "load": _load()}
    if device == "cuda":
        import torch

        facts["card"] = torch.cuda.get_device_name()
        facts["CUDA"] = str(torch.version.cuda)
        facts["driver"] = _driver()
    facts["Python"] = platform.python_version()
    return facts | {name: _version(name) for name in PACKAGES}


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


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
