"""The embedded model as a folder that OpenVINO reads."""

from __future__ import annotations

import shutil
from pathlib import Path

from ml.models.openvino_model import OpenVINOModel

__all__ = ["save_openvino_folder"]


def save_openvino_folder(loaded: OpenVINOModel, folder: Path, *, with_own: bool = True) -> Path:
    """Write a model as OpenVINO has it, with transformers' config and tokenizer, and its own."""
    shutil.copytree(loaded.source, folder)
    for path in loaded.folder.iterdir():
        if path.suffix in (".json", ".jinja"):
            shutil.copy(path, folder)
    if not with_own:
        for path in folder.glob("openvino_*tokenizer.*"):
            path.unlink()
    return folder
