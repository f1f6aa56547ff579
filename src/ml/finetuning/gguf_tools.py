"""llama.cpp's converter from safetensors to GGUF, where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ml.finetuning.failures import TrainingFailed

__all__ = ["convert_to_gguf", "find_converter"]

_CONVERTER = "convert_hf_to_gguf.py"
#: The folder of a checkout of llama.cpp.
_PLACE = "LLAMA_CPP_PATH"
_SECONDS = 3600


def find_converter() -> Path | str:
    """Return the converter, or why there is none."""
    place = os.environ.get(_PLACE)
    if place:
        path = Path(place, _CONVERTER)
        return path if path.is_file() else f"{_PLACE} is {place}, which holds no {_CONVERTER}"
    found = shutil.which(_CONVERTER)
    if found:
        return Path(found)
    return f"{_CONVERTER} of llama.cpp is not installed: set {_PLACE} to a checkout of llama.cpp"


def convert_to_gguf(converter: Path, model: Path, target: Path) -> None:
    """Write a model's folder as GGUF in bfloat16. Raises `TrainingFailed` with what it said."""
    command = [sys.executable, str(converter), str(model), "--outfile", str(target)]
    try:
        done = subprocess.run(  # noqa: S603
            [*command, "--outtype", "bf16"],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TrainingFailed(f"the conversion to GGUF took over {_SECONDS} seconds") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise TrainingFailed(f"the conversion to GGUF failed; {_CONVERTER} said: {said[-1][:300]}")
