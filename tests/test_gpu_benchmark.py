"""`benchmarks/gpu.sh` on the CPU: that it would run where a GPU is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from benchmarks.results import read_results
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
    found = read_results(tmp_path / "results.json")["gpu"]
    assert found.machine.startswith("cpu, ")
    assert found.command == f"benchmarks/gpu.sh --device cpu --quick --out {tmp_path}"
    checked = {table.title for table in found.tables if "yes" in [row[-1] for row in table.rows]}
    assert checked == {"engine", "llm_service", "classic_service", "trl"}
    assert "| a job of 3 steps | on cpu | yes |" in done.stdout


def test_without_a_gpu_it_says_so_before_it_does_anything() -> None:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [SCRIPT], env=environment, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "sees no CUDA GPU" in done.stderr
