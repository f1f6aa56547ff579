"""How fast this machine reads memory, which bounds how fast a token can be made.

Each token of a single answer reads all weights once.
"""

from __future__ import annotations

import os
import time

__all__ = ["read_bandwidth"]

_BYTES, _ROUNDS = 1 << 30, 7


def read_bandwidth() -> float:
    """Return the best of several rounds of reading a GiB with all processors, in bytes a second."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    values = torch.ones(_BYTES // 4)
    best = 0.0
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        values.sum()
        best = max(best, _BYTES / (time.perf_counter() - began))
    torch.set_num_threads(threads)
    return best
