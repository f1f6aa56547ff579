"""The `/service-resources` document: what a container can do, for the node to tell its clients."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["service_resources"]

#: The version of the document's form in this ecosystem.
_FORM_VERSION = "0.1.0"


def service_resources(service_id: str, compute_capability: dict[str, Any]) -> dict[str, Any]:
    """Return `version`, `service_id`, `hardware_capabilities` and `compute_capability`."""
    return {
        "version": _FORM_VERSION,
        "service_id": service_id,
        "hardware_capabilities": [_base_capability(), *_gpu_capability()],
        "compute_capability": [compute_capability],
    }


def _base_capability() -> dict[str, Any]:
    disk = shutil.disk_usage("/")
    return {
        "capability_id": "base",
        "os_info": {"name": platform.system(), "version": platform.version()},
        "cpu_info": _cpu_info(),
        "disk_info": [
            {
                "filesystem": "/",
                "mount_point": "/",
                "size": disk.total,
                "used": disk.used,
                "available": disk.free,
            }
        ],
    }


@cache
def _cpu_info() -> dict[str, Any]:
    fields: dict[str, str] = {}
    listing = Path("/proc/cpuinfo")
    for line in listing.read_text().splitlines() if listing.exists() else ():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    frequency = float(fields.get("cpu MHz") or 0)
    count = os.cpu_count() or 1
    return {
        "model": fields.get("model name", platform.processor()),
        "architecture": platform.machine(),
        "byte_order": sys.byteorder,
        "vendor_id": fields.get("vendor_id", ""),
        "num_cores": count,
        "cores": [{"id": core, "frequency": frequency} for core in range(count)],
    }


def _gpu_capability() -> list[dict[str, Any]]:
    """Return the GPUs, if the service's model brought torch in; importing it here would be slow."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    devices = range(torch.cuda.device_count())
    gpus = [torch.cuda.get_device_properties(index) for index in devices]
    return [
        {
            "capability_id": "gpu",
            "driver_version": "",
            "cuda_version": torch.version.cuda or "",
            "gpu_info": [
                {
                    "name": gpu.name,
                    "memory_total": gpu.total_memory,
                    "memory_used": torch.cuda.memory_allocated(index),
                    "cuda_device_id": index,
                }
                for index, gpu in enumerate(gpus)
            ],
        }
    ]
