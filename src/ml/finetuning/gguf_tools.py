"""Merged models as GGUF: by llama.cpp's converter, where it is installed, in any of our types."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from ml.finetuning.failures import TrainingFailed
from ml.finetuning.request import Export
from ml.models.gguf_weights import GGUFType, write_gguf

__all__ = ["find_converter", "gguf_type", "make_gguf"]

_TYPES: dict[str, GGUFType] = {
    "gguf": "bf16",
    **{f"gguf_{weights}": weights for weights in get_args(GGUFType)},
}

_CONVERTER = "convert_hf_to_gguf.py"
#: The folder of a checkout of llama.cpp.
_PLACE = "LLAMA_CPP_PATH"
_SECONDS = 3600
_HEED_SECONDS = 0.2


def gguf_type(export: Export) -> GGUFType | None:
    """Return the type of the weights of a GGUF, None for what is none."""
    return _TYPES.get(export)


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


def make_gguf(
    merged: Path,
    target: Path,
    weights: GGUFType,
    *,
    tell: Callable[[str], object],
    heed: Callable[[], object],
) -> None:
    """Write a merged model's folder, which goes, as one GGUF.

    `tell` is told what is done next, and `heed` is called now and then; both may raise. Raises
    `TrainingFailed` with what the converter said.
    """
    converter = find_converter()
    if isinstance(converter, str):  # it was there before the training
        raise TrainingFailed(f"no GGUF can be made: {converter}")
    tell("Converting the merged model to GGUF")
    whole = target if weights == "bf16" else target.with_name("whole.gguf")
    _convert(converter, merged, whole, heed=heed)
    shutil.rmtree(merged)
    if whole != target:
        tell(f"Rounding its weights to {weights}")
        write_gguf(whole, target, weights, heed=heed)
        whole.unlink()


def _convert(converter: Path, model: Path, target: Path, *, heed: Callable[[], object]) -> None:
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
