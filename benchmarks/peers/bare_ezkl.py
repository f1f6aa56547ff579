"""Bare ezkl: witness, proof and check of one input over and over, and nothing around them.

    python bare_ezkl.py <folder of an artifact> <count>

prints the CPU and wall seconds of a proof and the most memory of the process as JSON. The first
proof is not counted.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import ezkl


def main(folder: Path, count: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        prove(folder, Path(scratch))
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(count):
            prove(folder, Path(scratch))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    status = Path("/proc/self/status").read_text().splitlines()
    [peak] = (line.split()[1] for line in status if line.startswith("VmHWM"))
    print(json.dumps({"cpu": cpu / count, "wall": wall / count, "memory_mb": int(peak) / 1024}))


def prove(folder: Path, scratch: Path) -> None:
    circuit, srs = str(folder / "network.ezkl"), str(folder / "kzg.srs")
    witness, proof = str(scratch / "witness.json"), str(scratch / "proof.json")
    ezkl.gen_witness(str(folder / "self_test.json"), circuit, witness)
    ezkl.prove(witness, circuit, str(folder / "pk.key"), proof, srs_path=srs)
    settings, key = str(folder / "settings.json"), str(folder / "vk.key")
    assert ezkl.verify(proof, settings, key, srs_path=srs)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
