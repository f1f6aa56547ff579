"""A kind of job that counts steps, saves where it is, and can end in all the ways that jobs end.

Its request: `steps`, `pause_seconds` after each, and `at_end`: what happens then.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

from ml.jobs.context import JobContext, Stopped
from ml.jobs.event_type import EventType

__all__ = ["KIND", "run"]

KIND = __name__


def run(context: JobContext) -> dict[str, Any]:
    """Count; the result says from where to where this attempt counted."""
    request = context.job.request
    saved = context.folder / "step"
    first = int(saved.read_text()) if saved.exists() else 0
    acknowledged = (context.folder / "acknowledged").open("a")
    for step in range(first, request["steps"]):
        context.progress(step=step)
        context.event(EventType.PROGRESS, {"step": step})
        print(step, file=acknowledged, flush=True)  # written only after event() has returned
        (context.folder / "step.new").write_text(str(step + 1))
        (context.folder / "step.new").replace(saved)
        if context.stop_request() and not request.get("stubborn"):
            raise Stopped
        time.sleep(request.get("pause_seconds", 0))
    _end(context, request.get("at_end", ""))
    return {"first": first, "steps": request["steps"]}


def _end(context: JobContext, how: str) -> None:
    sys.stderr.write("the last words\n")
    if how == "raise":
        raise ValueError("the data is odd")
    if how == "exit":
        os._exit(3)
    if how == "crash":
        os.abort()
    if how == "no json":
        context.event(EventType.LOG, {"message": {1, 2}})  # type: ignore[dict-item]
    if how == "leave a helper":
        command = [sys.executable, "-c", "import time; time.sleep(60)"]
        helper = subprocess.Popen(command)
        (context.folder / "helper").write_text(str(helper.pid))
