"""What a worker's process does for a request: run a circuit, prove, check a proof.

These run in the process of a `Worker`; their arguments and results are pickled.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml.proving import native

if TYPE_CHECKING:
    from ml.proving.worker import Progress

__all__ = ["CircuitFiles", "ProvedDocument", "Stages", "check", "prove", "run_circuit"]


@dataclass(frozen=True)
class CircuitFiles:
    """The files that ezkl works with."""

    circuit: Path
    settings: Path
    proving_key: Path
    verifying_key: Path
    srs: Path


@dataclass(frozen=True)
class ProvedDocument:
    """A proof in the form of ezkl's `prove()`, and what came with it.

    Attributes:
        outputs: for each tensor its field elements, in little-endian hex.
        seconds: of each stage.
        peak_memory_bytes: the most memory that the process held since it started.
    """

    proof: dict[str, Any]
    outputs: list[list[str]]
    seconds: dict[str, float]
    peak_memory_bytes: int


@dataclass
class Stages:
    """Reports stages as they begin and end, and keeps their seconds."""

    report: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Report that a stage begins and, if it succeeds, that it ended."""
        self.report(name, None)
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began
        self.report(name, self.seconds[name])


def run_circuit(
    files: CircuitFiles, document: str, scratch: Path, report: Progress
) -> list[list[str]]:
    """Return the outputs of a circuit, for each tensor its field elements in little-endian hex.

    `document` is the JSON text of ezkl's `input_data`.
    """
    with Stages(report).stage("witness"):
        outputs, _ = _witness(files, document, scratch)
    return outputs


def prove(files: CircuitFiles, document: str, scratch: Path, report: Progress) -> ProvedDocument:
    """Return a proof that holds, for a document as `run_circuit` takes it."""
    stages = Stages(report)
    proof_path = scratch / "proof.json"
    with stages.stage("witness"):
        outputs, witness = _witness(files, document, scratch)
    with stages.stage("prove"):
        proof = native.prove(witness, files.circuit, files.proving_key, proof_path, files.srs)
    with stages.stage("verify"):
        native.verify(proof_path, files.settings, files.verifying_key, files.srs)
    return ProvedDocument(proof, outputs, stages.seconds, _peak_memory_bytes())


def check(files: CircuitFiles, proof: dict[str, Any], scratch: Path, report: Progress) -> None:
    """Raise `ProofRefused` unless a proof, a document as ezkl writes it, holds."""
    path = scratch / "proof.json"
    path.write_text(json.dumps(proof))
    with Stages(report).stage("check"):
        native.verify(path, files.settings, files.verifying_key, files.srs)


def _witness(files: CircuitFiles, document: str, scratch: Path) -> tuple[list[list[str]], Path]:
    data, witness = scratch / "input.json", scratch / "witness.json"
    data.write_text(document)
    outputs: list[list[str]] = native.gen_witness(data, files.circuit, witness)["outputs"]
    return outputs, witness


def _peak_memory_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # unlike getrusage, it knows nothing of the process that started this one
        [line] = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
