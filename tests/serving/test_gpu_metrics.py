"""The memory of GPUs, as NVIDIA's library tells it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import clean_environment

#: The library's interface, with two GPUs and one between them that cannot be asked.
LIBRARY = """
typedef struct { unsigned long long total, free, used; } nvmlMemory_t;
int nvmlInit_v2(void) { return FAULT; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 3; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    *device = (void *)(unsigned long)(index + 1);
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *device, nvmlMemory_t *memory) {
    unsigned long long number = (unsigned long)device;
    if (number == 2) return 3;
    memory->total = 80000000000ULL + number;
    memory->used = 1000000000ULL * number;
    memory->free = memory->total - memory->used;
    return 0;
}
"""
TELLS = """
import asyncio
from ml.serving.gpu_metrics import gpu_metrics
for family in asyncio.run(gpu_metrics()):
    for sample in family.samples:
        print(sample.name, sample.labels["gpu"], int(sample.value))
"""


def told(folder: Path | None) -> list[str]:
    """Return what a process tells that finds the library in this folder, or nowhere."""
    ran = subprocess.run(
        [sys.executable, "-c", TELLS],
        env=clean_environment() | ({"LD_LIBRARY_PATH": str(folder)} if folder else {}),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return ran.stdout.splitlines()


def built(folder: Path, fault: int) -> Path:
    source = folder / "nvml.c"
    source.write_text(LIBRARY)
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(
        ["cc", f"-DFAULT={fault}", "-shared", "-fPIC", "-o", library, source], check=True
    )
    return folder


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_each_gpu_that_can_be_asked_is_told(tmp_path: Path) -> None:
    assert told(built(tmp_path, 0)) == [
        "gpu_memory_used_bytes 0 1000000000",
        "gpu_memory_used_bytes 2 3000000000",
        "gpu_memory_bytes 0 80000000001",
        "gpu_memory_bytes 2 80000000003",
    ]


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_library_without_a_driver_tells_nothing(tmp_path: Path) -> None:
    assert told(built(tmp_path, 9)) == []
