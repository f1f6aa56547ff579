"""llama.cpp's converter from safetensors to GGUF, where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ml.finetuning.failures import TrainingFailed

__all__ = ["convert_to_gguf", "find_converter"]

_CONVERTER = "convert_hf_to_gguf.py"
#: The folder of a checkout of llama.cpp.
_PLACE = "LLAMA_CPP_PATH"
_SECONDS = 3600
_HEED_SECONDS = 0.2


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


def convert_to_gguf(
    converter: Path, model: Path, target: Path, *, heed: Callable[[], object]
) -> None:
    """Write a model's folder as GGUF in bfloat16; `heed` is called meanwhile and may raise.

    Raises `TrainingFailed` with what the converter said.
    """
    command = [sys.executable, str(converter), str(model), "--outfile", str(target)]
    deadline = time.monotonic() + _SECONDS
    with subprocess.Popen(  # noqa: S603
        [*command, "--outtype", "bf16"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            said = _wait(process, heed, deadline)
        except BaseException:
            process.kill()
            raise
    if process.returncode < 0:  # by a signal that the whole group got: this process heeds it
        time.sleep(_HEED_SECONDS)
        heed()
    if process.returncode:
        last = (said.strip().splitlines() or ["nothing"])[-1]
        raise TrainingFailed(f"the conversion to GGUF failed; {_CONVERTER} said: {last[:300]}")


def _wait(process: subprocess.Popen[str], heed: Callable[[], object], deadline: float) -> str:
    """Return what a process says on its standard error until it ends."""
    while True:
        try:
            return process.communicate(timeout=_HEED_SECONDS)[1]
        except subprocess.TimeoutExpired:
            heed()
            if time.monotonic() > deadline:
                raise TrainingFailed(
                    f"the conversion to GGUF took over {_SECONDS} seconds"
                ) from None
