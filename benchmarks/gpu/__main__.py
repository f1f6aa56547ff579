"""Runs the parts, each in a process of its own with a limit of time, and prints a table of each.

    python -m benchmarks.gpu [--device cuda] [--quick] [--out FOLDER] [--check] [PART …]

FOLDER/results.json has what was found, for `python -m benchmarks.page --take FOLDER/results.json`.
A part that fails or takes too long loses none of what it found before, and none of the others.
Exits with 1 if a part failed or a check was not good, and with 2 if there is no such device.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from importlib import import_module
from pathlib import Path
from typing import IO

from benchmarks.gpu.finding import Finding, Part, Scale
from benchmarks.gpu.machine import machine, versions
from benchmarks.results import Record, write_results
from benchmarks.servers import ROOT

#: By name: where a part is, and the seconds that it may take on a GPU.
PARTS = {
    "engine": ("benchmarks.gpu.engine", 110),
    "llm_service": ("benchmarks.gpu.llm_service", 60),
    "classic_service": ("benchmarks.gpu.classic_service", 50),
    "trl": ("benchmarks.gpu.trainer_service", 90),
    "unsloth": ("benchmarks.gpu.trainer_service", 150),
}
_WORDS = {True: "yes", False: "**no**", None: ""}


def main() -> int:
    """Run a part, or all of them one after the other."""
    options = _options()
    scale = Scale(options.device, options.quick)
    if options.part:
        part: Part = getattr(import_module(PARTS[options.part][0]), options.part)
        for finding in part(scale):
            finding.print()
        return 0
    if options.check:
        fault = _device_fault(options.device)
        print(fault, end="", file=sys.stderr)
        return 2 if fault else 0
    options.out.mkdir(parents=True, exist_ok=True)
    record, is_good = _begin(scale), True
    for name in options.parts or PARTS:
        found = _run(name, options)
        is_good = is_good and all(finding.good is not False for finding in found)
        table = record.table(name, "result", "good")
        for finding in found:
            table.row(finding.what, finding.result, _WORDS[finding.good])
        write_results({"gpu": record}, options.out / "results.json")
    return int(not is_good)


def _begin(scale: Scale) -> Record:
    record = Record.begin()
    record.command = f"benchmarks/gpu.sh {shlex.join(sys.argv[1:])}".rstrip()
    record.machine = machine(scale.device)
    record.versions = versions(scale.device)
    return record


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=" ".join(PARTS))
    parser.add_argument("--device", default="cuda", help="cuda, or cpu for a dry run")
    parser.add_argument("--quick", action="store_true", help="a little of everything")
    parser.add_argument("--out", type=Path, help="the folder for results and logs")
    parser.add_argument("--check", action="store_true", help="look for the device, do nothing")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    options.out = options.out or Path(tempfile.mkdtemp(prefix="gpu-"))
    return options


def _device_fault(device: str) -> str:
    if device != "cuda":
        return ""
    import torch

    if not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no CUDA GPU here; --device=cpu is the dry run\n"
    return ""


def _run(name: str, options: argparse.Namespace) -> list[Finding]:
    """Return what a part finds; its end, if that is none of its own, is a finding too."""
    command = [sys.executable, "-m", "benchmarks.gpu", f"--part={name}"]
    command += [f"--device={options.device}", *(["--quick"] if options.quick else [])]
    limit = PARTS[name][1] * (1 if options.device == "cuda" else 3)
    with (options.out / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        late = threading.Timer(limit, _end, [process])
        late.start()
        found = _read(name, process.stdout)
        process.wait()
        timed_out = late.finished.is_set()
        late.cancel()
    _end(process)  # servers that it left behind
    if process.returncode:
        last = (options.out / f"{name}.log").read_text().strip().rpartition("\n")[2]
        why = f"not done within {limit} s" if timed_out else f"failed: {last[-300:]}"
        found.append(Finding("the part", why, good=False))
        print(f"  {name:<16} {why}", file=sys.stderr, flush=True)
    return found


def _read(name: str, lines: IO[str] | None) -> list[Finding]:
    found = []
    for line in lines or ():
        finding = Finding(**json.loads(line))
        found.append(finding)
        print(f"  {name:<16} {finding.what}: {finding.result}", file=sys.stderr, flush=True)
    return found


def _end(process: subprocess.Popen[str]) -> None:
    """End a part and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
