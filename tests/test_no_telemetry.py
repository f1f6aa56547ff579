"""No library tells anybody that it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.processes import clean_environment

#: What services import, and what some of these send by threads of their own.
PROGRAM = """
import sys, time

def told(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        print(event, arguments)

sys.addaudithook(told)
import ml
import catboost, lightgbm, onnxruntime, openvino, openvino_genai, skops.io, xgboost
from openvino_genai import ContinuousBatchingPipeline
import huggingface_hub, transformers, peft, trl, datasets, accelerate, ezkl
time.sleep(3)
"""


def test_importing_what_services_use_opens_no_connection(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=clean_environment(HOME=str(tmp_path)) | {"HF_HUB_OFFLINE": "0"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert not list(tmp_path.rglob("openvino*"))
