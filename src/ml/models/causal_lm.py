"""Causal language models of transformers, from the hub, a folder, or the embedded one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml.errors import ConfigurationError, UpstreamError
from ml.models.local_models import is_broken_off, model_source, why_missing

__all__ = ["CausalLM", "load_causal_lm", "require_known_options"]

_DTYPES = ("auto", "bfloat16", "float16", "float32")
_QUANTIZATIONS = (None, "int8")


@dataclass(frozen=True)
class CausalLM:
    """A loaded model with its tokenizer.

    Attributes:
        end_tokens: ids that end the model's turn.
        max_length: positions that the model was made for.
    """

    model: Any
    tokenizer: Any
    end_tokens: tuple[int, ...]
    max_length: int


def load_causal_lm(
    name: str,
    *,
    revision: str | None = None,
    adapter: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
    quantization: str | None = None,
) -> CausalLM:
    """Load a model by its hub name or folder, with a LoRA adapter of peft merged into it.

    Only safetensors are read and no code of a repository is run. `dtype` "auto" is bfloat16 where
    the processor has instructions for it, else float32. `quantization` "int8" reads 8-bit weights
    for up to 8 rows at once; it runs on the CPU in bfloat16, which "auto" then is, and takes 1.5
    times the memory. Raises `ConfigurationError` saying what is missing, and `UpstreamError`
    where only the hub cannot be reached.
    """
    require_known_options(dtype=dtype, quantization=quantization, device=device)
    if missing := why_missing(name):  # before the packages that take seconds to import
        raise _fault(f"model {name!r} cannot be loaded: {missing}", missing.may_pass)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    chosen = _chosen_dtype(dtype, place.type, quantization)
    source = model_source(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source, revision=revision, trust_remote_code=False
        )
        model: Any = AutoModelForCausalLM.from_pretrained(
            source,
            revision=revision,
            dtype=getattr(torch, chosen),
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        told = f"model {name!r} cannot be loaded: {reason}"
        raise _fault(told, is_broken_off(error)) from error
    if adapter is not None:
        model = _with_adapter(model, adapter)
    model = model.eval().to(place)
    if quantization is not None:
        from ml.models.int8_linear import quantize_linears

        quantize_linears(model)
    return CausalLM(model, tokenizer, _end_tokens(model, tokenizer), _max_length(model))


def _fault(reason: str, may_pass: bool) -> Exception:
    return UpstreamError(reason) if may_pass else ConfigurationError(reason)


def require_known_options(*, dtype: Any, quantization: Any, device: str | None) -> None:
    """Raise `ConfigurationError` for what `load_causal_lm` does not know, or not together."""
    faults = []
    if dtype not in _DTYPES:
        faults.append(f"dtype: {dtype!r} is none of {', '.join(_DTYPES)}")
    if quantization not in _QUANTIZATIONS:
        faults.append(f"quantization: {quantization!r} is neither null nor int8")
    elif quantization is not None:
        faults += _faults_of_quantization(quantization, dtype, device)
    if faults:
        raise ConfigurationError("\n".join(faults))


def _faults_of_quantization(quantization: str, dtype: Any, device: str | None) -> list[str]:
    faults = []
    if device not in (None, "cpu"):
        faults.append(
            f"quantization: {quantization} runs on the CPU only; give device cpu, not {device}"
        )
    if dtype in _DTYPES and dtype not in ("auto", "bfloat16"):
        faults.append(f"quantization: {quantization} needs dtype bfloat16, not {dtype}")
    return faults


def _chosen_dtype(dtype: str, device: str, quantization: str | None) -> str:
    if quantization is None:
        return _best_dtype(device) if dtype == "auto" else dtype
    if faults := _faults_of_quantization(quantization, dtype, device):  # where CUDA was found
        raise ConfigurationError("\n".join(faults))
    return "bfloat16"


def _best_dtype(device: str) -> str:
    if device == "cuda":
        return "bfloat16"
    listing = Path("/proc/cpuinfo")
    flags = listing.read_text() if listing.exists() else ""
    return "bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def _with_adapter(model: Any, adapter: str) -> Any:
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, adapter).merge_and_unload()
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(f"adapter {adapter!r} cannot be loaded: {reason}") from error


def _end_tokens(model: Any, tokenizer: Any) -> tuple[int, ...]:
    configured = model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return tuple({id_ for id_ in (*ids, tokenizer.eos_token_id) if id_ is not None})


def _max_length(model: Any) -> int:
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", 2048))
