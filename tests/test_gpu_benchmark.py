"""`benchmarks/gpu.sh` on the CPU: that it would run where a GPU is."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.support.processes import ROOT

SCRIPT = ROOT / "benchmarks" / "gpu.sh"


def test_the_dry_run_finds_everything_good_but_what_is_not_here(tmp_path: Path) -> None:
    command = [SCRIPT, "--device", "cpu", "--quick", "--out", tmp_path]
    done = subprocess.run(
        command,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["machine"]["device"] == "cpu"
    parts = {row["part"]: [] for row in found["rows"]}
    for row in found["rows"]:
        parts[row["part"]].append(row["good"])
    checked = {part for part, goods in parts.items() if True in goods}
    assert checked == {"engine", "llm_service", "classic_service", "trl"}
    assert "| trl | a job of 3 steps | on cpu | yes |" in done.stdout


def test_without_a_gpu_it_says_so_before_it_does_anything() -> None:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [SCRIPT], env=environment, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "sees no CUDA GPU" in done.stderr
