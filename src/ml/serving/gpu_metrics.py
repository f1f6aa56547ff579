"""What Prometheus sees of this machine's GPUs, told by NVIDIA's driver and without torch.

Import it as late as `ml.serving.metrics`.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Mapping
from functools import cache

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

__all__ = ["gpu_families", "gpu_metrics"]


async def gpu_metrics() -> list[Metric]:
    """Return the memory of each GPU; nothing where there is none."""
    memories = await asyncio.to_thread(_memories)
    return gpu_families(memories) if memories else []


def gpu_families(memories: Mapping[int, tuple[int, int]]) -> list[Metric]:
    """Return the metrics of GPUs by their numbers, with these bytes: used ones, and all."""
    used = GaugeMetricFamily("gpu_memory_used_bytes", "Of a GPU, by all processes", labels=["gpu"])
    total = GaugeMetricFamily("gpu_memory_bytes", "Of a GPU", labels=["gpu"])
    for number, memory in memories.items():
        used.add_metric([str(number)], memory[0])
        total.add_metric([str(number)], memory[1])
    return [used, total]


class _Memory(ctypes.Structure):
    """nvmlMemory_t of NVIDIA's management library."""

    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


def _memories() -> dict[int, tuple[int, int]]:
    """Return the used and all bytes of each GPU that can be asked."""
    if (library := _library()) is None:
        return {}
    count, found = ctypes.c_uint(), {}
    library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    for number in range(count.value):
        device, memory = ctypes.c_void_p(), _Memory()
        library.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(device))
        if library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) == 0:
            found[number] = (memory.used, memory.total)
    return found


@cache
def _library() -> ctypes.CDLL | None:
    """Return the driver's library, ready to be asked; None where there is none."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    return library if library.nvmlInit_v2() == 0 else None
