"""What runs in vLLM's processes: it loads this by the entry point `vllm.general_plugins`."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal

__all__ = ["end_with_parent"]

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Let the engine's process be killed when the one that started it is gone.

    vLLM ends it only if that one ends in good order; else it would keep the GPU's memory for ever.
    Its workers end with it by themselves.
    """
    parent = multiprocessing.parent_process()
    if parent is None or not multiprocessing.current_process().name.startswith("EngineCore"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent.pid:  # it was gone before
        os._exit(1)
