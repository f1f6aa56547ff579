"""`manifest.json`: what a tuned model was made of, with what, and what its files are."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml.finetuning.output import sha256_of
from ml.finetuning.run_log import LOG_FILE, METRICS_FILE

__all__ = ["MANIFEST_FILE", "files_of", "software", "write_manifest"]

MANIFEST_FILE = "manifest.json"
_PACKAGES = (
    "infernet-ml-services",
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "tokenizers",
    "safetensors",
    "unsloth",
    "bitsandbytes",
)


def write_manifest(folder: Path, data: Mapping[str, Any]) -> None:
    """Write the manifest of a tuned model's folder."""
    text = json.dumps(data, indent=2, sort_keys=True, allow_nan=False) + "\n"
    scratch = folder / f".{MANIFEST_FILE}"
    scratch.write_text(text)
    scratch.replace(folder / MANIFEST_FILE)


def files_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of a model's files by name; its logs and hidden files are not it."""
    left_out = {MANIFEST_FILE, LOG_FILE, METRICS_FILE}
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in paths
        if path.name not in left_out and not path.name.startswith(".")
    }


def software() -> dict[str, Any]:
    """Return the versions of Python and of the packages that have a part in a run."""
    versions: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
    }
