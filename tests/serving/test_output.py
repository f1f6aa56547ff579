"""What nobody takes is lost, and holds nobody up."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
from ml.serving.output import StandardOutput
output = StandardOutput()
for _ in range(10):
    assert output.write(b"x" * 100_000) == 100_000
"""


def test_a_full_pipe_that_does_not_block_is_not_waited_for() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    done = subprocess.run([sys.executable, "-c", PROGRAM], stdout=write, timeout=30, check=False)
    os.close(read)
    os.close(write)
    assert done.returncode == 0
