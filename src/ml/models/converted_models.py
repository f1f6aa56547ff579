"""Models that `python -m ml.models.convert` made for OpenVINO, and where they lie."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ml.models.embedded_llm import embedded_llm_path
from ml.models.source import is_repo_id

__all__ = ["conversion_root", "converted_path", "converted_source", "fingerprint", "mark_converted"]

_RECORD = "conversion.json"
_READ = ("*.safetensors", "*.json", "*.jinja", "*.model")


def conversion_root() -> Path:
    """Return the folder of all conversions, in `MODELS_PATH`."""
    return embedded_llm_path().parent / ".openvino"


def converted_path(name: str, weights: str) -> Path:
    """Return where a model lies once it is converted to such weights."""
    if is_repo_id(name):
        return conversion_root() / name.replace("/", "--") / weights
    path = Path(name).resolve()
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    return conversion_root() / f"{path.name}-{digest}" / weights


def converted_source(name: str, weights: str, folder: Path | None) -> Path | None:
    """Return the converted model's folder, unless its own `folder` has changed since."""
    converted = converted_path(name, weights)
    try:
        record = json.loads((converted / _RECORD).read_text())
    except (OSError, ValueError):
        return None
    if folder is not None and record.get("source") != fingerprint(folder):
        return None
    return converted


def mark_converted(converted: Path, source: Path) -> None:
    """Write down what a folder was made of."""
    (converted / _RECORD).write_text(json.dumps({"source": fingerprint(source)}))


def fingerprint(folder: Path) -> str:
    """Return what changes with a model's files, by their sizes and times."""
    stats = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for pattern in _READ
        for path in sorted(folder.glob(pattern))
    ]
    return hashlib.sha256(json.dumps(stats).encode()).hexdigest()
