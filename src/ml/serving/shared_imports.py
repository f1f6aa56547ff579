"""What the workers of a service have in memory together: modules imported before the fork."""

from __future__ import annotations

import contextlib
import gc
import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection

from ml.parent_process import end_with_parent
from ml.serving.services import settings_of
from ml.serving.settings import load_settings
from ml.workflows.loading import load_workflow

__all__ = ["import_for_workers"]

_ANSWER_SECONDS = 60.0


def import_for_workers(service: str) -> None:
    """Import what all workers need: the application, and what the workflow names.

    Objects that are there then are left alone by the collection of garbage, which would write to
    them. What cannot be imported is left to the first worker, which tells of it.
    """
    for module in ("ml.serving.app", *_named_by_workflow(service)):
        with contextlib.suppress(Exception, SystemExit):
            importlib.import_module(module)
    os.register_at_fork(after_in_child=_draw_anew)
    gc.collect()
    gc.freeze()


def _named_by_workflow(service: str) -> Sequence[str]:
    """Return the workflow's `shared_imports`, none where it cannot be made.

    A process of its own makes it, and ends: its module and its constructor may start threads or
    open a GPU, neither of which outlives a fork.
    """
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_tell_names, args=(service, there, os.getpid()))
    process.start()
    there.close()
    try:
        return here.recv() if here.poll(_ANSWER_SECONDS) else ()
    except EOFError:
        return ()
    finally:
        process.kill()
        process.join()


def _tell_names(service: str, there: Connection, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, for the parent
    end_with_parent(parent, signal.SIGKILL)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # what is wrong, the first worker says
        os.dup2(nowhere, stream)
    settings = load_settings(settings_of(service))
    workflow = load_workflow(
        settings.workflow_class,
        settings.workflow_positional_args,
        settings.workflow_arguments(),
    )
    there.send(list(workflow.shared_imports))


def _draw_anew() -> None:
    """Give a worker random numbers of its own; Python's `random` does that itself."""
    if "numpy.random" in sys.modules:
        import numpy as np

        np.random.seed()
    if "torch" in sys.modules:
        import torch

        torch.default_generator.seed()
