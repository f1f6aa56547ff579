"""Makes OpenVINO's model of one of the Hugging Face hub, or of a folder.

    python -m ml.models.convert MODEL [--weights fp16 | int8 | int4]

It lies in MODELS_PATH afterwards, where engine openvino finds it by the model's name. The first
time, an environment of its own is made there for what converts, with torch, of 1.6 GB: it needs
other versions than what serves. A model whose files have changed is converted again.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import version
from pathlib import Path
from typing import get_args

from pydantic import NonNegativeInt

from ml.errors import CONFIGURATION_EXIT_CODE, ConfigurationError, UpstreamError
from ml.models.converted_models import (
    conversion_root,
    converted_path,
    converted_source,
    mark_converted,
)
from ml.models.embedded_llm import EMBEDDED_LLM
from ml.models.local_models import folder_here, why_missing
from ml.models.model_config import ModelConfig
from ml.models.openvino_model import Weights

__all__ = ["convert", "main"]

_TOOLS = ("optimum-intel[openvino]==2.2.0", "transformers<5.6", "torch==2.13.0")
_GROUP_SIZES = (128, 64, 32)
_FROM_HUB = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


class _Sizes(ModelConfig):
    hidden_size: NonNegativeInt = 0
    intermediate_size: NonNegativeInt = 0
    num_attention_heads: NonNegativeInt = 0
    head_dim: NonNegativeInt = 0


def convert(name: str, weights: Weights = "int8") -> Path:
    """Return the folder of a converted model, made if it is not there or its source has changed.

    Raises `ConfigurationError` for what cannot be converted, or where the environment cannot be
    made, and `UpstreamError` where only the hub cannot be reached.
    """
    source = _source(name)
    if converted := converted_source(name, weights, source):
        return converted
    python = _environment()
    target = converted_path(name, weights)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch, "model")
        command = [str(python), "-m", "optimum.commands.optimum_cli", "export", "openvino"]
        command += ["--model", str(source), "--task", "text-generation-with-past"]
        command += ["--weight-format", weights]
        if weights == "int4":
            command += ["--group-size", str(_group_size(source))]
        _run([*command, str(made)], f"{name!r} cannot be converted")
        mark_converted(made, source)
        if target.exists():  # of a source that has changed
            target.rename(Path(scratch, "old"))
        made.rename(target)
    return target


def _source(name: str) -> Path:
    if missing := why_missing(name):
        told = f"model {name!r} cannot be converted: {missing}"
        raise UpstreamError(told) if missing.may_pass else ConfigurationError(told)
    folder = folder_here(name)
    if folder is not None and any(folder.glob("*.safetensors")):
        return folder
    if folder is not None and Path(name).is_dir():
        raise ConfigurationError(f"model {name!r} cannot be converted: it has no safetensors")
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, allow_patterns=list(_FROM_HUB)))


def _group_size(source: Path) -> int:
    """Return how many weights of a row share a scale: as many as divide all rows, -1 for all."""
    sizes = _Sizes.read(source / "config.json")
    heads = sizes.num_attention_heads * sizes.head_dim
    rows = sizes.hidden_size, sizes.intermediate_size, heads
    return next((size for size in _GROUP_SIZES if not any(row % size for row in rows)), -1)


def _environment() -> Path:
    """Return the Python of the environment that converts, made if it is not there."""
    tools = [*_TOOLS, *(f"{name}=={version(name)}" for name in ("openvino", "openvino-tokenizers"))]
    digest = hashlib.sha256(" ".join(tools).encode()).hexdigest()[:12]
    folder = conversion_root() / f"environment-{digest}"
    python = folder / "bin" / "python"
    whole = folder / "whole"
    if not whole.exists():
        sys.stderr.write(f"making {folder}, which takes minutes\n")
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
        _run([*pip, "install", "--quiet", *tools], "the environment cannot be made")
        # The first comes along, often in a build that does not fit torch's, and cannot be imported;
        # by the other, OpenVINO tells its maker that it is used.
        unwanted = ("torchvision", "openvino-telemetry")
        _run([*pip, "uninstall", "--quiet", "--yes", *unwanted], f"{unwanted} stay")
        whole.touch()
    return python


def _run(command: list[str], fault: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(  # noqa: S603
        command,
        env=environment | {"HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        last = [line for line in done.stdout.splitlines() if line.strip()][-1:]
        raise ConfigurationError(": ".join([fault, *last]))


def main(arguments: list[str] | None = None) -> int:
    """Convert it, and print its folder; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m ml.models.convert",
        description="Makes OpenVINO's model of one of the Hugging Face hub, or of a folder, and "
        "prints its folder, which lies in MODELS_PATH.",
    )
    parser.add_argument(
        "model", metavar="MODEL", help=f"a name or a folder, such as {EMBEDDED_LLM}"
    )
    parser.add_argument("--weights", choices=get_args(Weights), default="int8", help="(int8)")
    given = parser.parse_args(arguments)
    try:
        sys.stdout.write(f"{convert(given.model, given.weights)}\n")
    except (ConfigurationError, UpstreamError) as error:
        sys.stderr.write(f"error: {error}\n")
        return CONFIGURATION_EXIT_CODE
    return 0


if __name__ == "__main__":
    sys.exit(main())
