"""Our arguments in vLLM's words."""

from __future__ import annotations

from typing import Any

from ml.generation.arguments import LanguageModelArguments

__all__ = ["engine_args", "environment"]

#: The ranks that vLLM has room for.
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
#: Alternatives to a token that may be asked for.
_MOST_LOGPROBS = 20
_GPU_MEMORY = 0.9
_GIB = 1 << 30


def engine_args(source: str, arguments: LanguageModelArguments, *, max_length: int) -> Any:
    """Return vLLM's `AsyncEngineArgs` for a model's folder, or its name on the hub."""
    from vllm import AsyncEngineArgs
    from vllm.config import StructuredOutputsConfig
    from vllm.platforms import current_platform

    given, on_cpu = arguments, current_platform.is_cpu()
    return AsyncEngineArgs(
        model=source,
        revision=given.revision,
        tokenizer_revision=given.revision,
        trust_remote_code=False,
        load_format="safetensors",
        dtype=given.dtype,
        max_num_seqs=given.slots,
        max_model_len=max_length,
        enable_prefix_caching=given.reuse_prefixes,
        tensor_parallel_size=given.tensor_parallel or 1,
        gpu_memory_utilization=given.gpu_memory or _GPU_MEMORY,
        kv_cache_memory_bytes=given.cache_gib and given.cache_gib * _GIB,
        enforce_eager=on_cpu,  # else it needs a compiler there, and minutes
        generation_config="vllm",  # what an answer is like, we say
        logprobs_mode="raw_logprobs",
        max_logprobs=_MOST_LOGPROBS,
        structured_outputs_config=StructuredOutputsConfig(backend="guidance"),
        disable_log_stats=True,
        enable_log_requests=False,
        **_of_adapters(given, on_cpu=on_cpu),
    )


def _of_adapters(arguments: LanguageModelArguments, *, on_cpu: bool) -> dict[str, Any]:
    if arguments.adapters_path is None:
        return {}
    room = next((rank for rank in _RANKS if rank >= arguments.max_adapter_rank), _RANKS[-1])
    # On the CPU, rows without an adapter get what the last slot adds: it has to stay empty.
    slots = arguments.max_adapters + on_cpu
    return {"enable_lora": True, "max_loras": slots, "max_lora_rank": room}


def environment(arguments: LanguageModelArguments) -> dict[str, str]:
    """Return vLLM's settings that are variables."""
    return {
        "DO_NOT_TRACK": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CONFIGURE_LOGGING": "0",  # ours has one form for all lines
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork would have our threads' locks
        "VLLM_CPU_KVCACHE_SPACE": str(arguments.cache_gib or 1),
    }
