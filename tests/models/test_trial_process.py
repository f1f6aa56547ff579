"""The process in which a model file is tried first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from ml.jobs.process import Process
from tests.support.processes import clean_environment, until

#: Is loaded in the trial, and does what a library does whose file leads it in circles.
ENDLESS = """
import os
import time
from pathlib import Path

def load(path):
    path.with_suffix(".new").write_text(str(os.getpid()))
    path.with_suffix(".new").rename(path.with_suffix(".pid"))
    while True:
        time.sleep(1)
"""
SERVICE = """
import sys
from pathlib import Path
from endless import load
from ml.models.formats.trial_process import require_survivable

require_survivable(Path(sys.argv[1]), load)
"""


def test_a_trial_ends_with_the_process_that_waits_for_it(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS)
    model, told = tmp_path / "model.txt", tmp_path / "model.pid"
    model.write_text("a model")
    environment = {**clean_environment(), "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", SERVICE, str(model)]
    with subprocess.Popen(command, env=environment) as service:
        until(told.exists, "the trial")
        trial = Process.numbered(int(told.read_text()))
        assert not trial.is_gone
        service.kill()
    try:
        until(lambda: trial.is_gone, "the end of the trial")
    finally:
        if not trial.is_gone:
            os.kill(trial.pid, signal.SIGKILL)
