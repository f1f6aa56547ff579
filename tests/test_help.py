"""Every program that people start explains itself: `--help` ends at once and does nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT, clean_environment

#: Started by services and servers of ours alone, or inside images.
INTERNAL = re.compile(r"\w+_process\.py$|jobs/child\.py$|^benchmarks/peers/|^docker/")


def programs() -> list[str]:
    folders = ("src", "services", "ezkl_patches", "examples", "benchmarks", "docker")
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    names = [
        str(path.relative_to(ROOT))
        for path in paths
        if '__name__ == "__main__"' in path.read_text()
    ]
    return [name for name in names if ".venv" not in name and not INTERNAL.search(name)]


@pytest.mark.parametrize("program", programs())
def test_help_explains_and_does_nothing(program: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / program, "--help"],
        env=clean_environment(HOME=str(tmp_path), PYTHONPYCACHEPREFIX=str(tmp_path.parent)),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")
    assert list(tmp_path.iterdir()) == []
