"""Spoiled requests to all routes of all services: `python -m tests.fuzz [--requests 20000]`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

from tests.fuzz.run import fuzz
from tests.support import shared
from tests.support.services import SERVICES


async def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("services", nargs="*", default=SERVICES, metavar="service")
    parser.add_argument("--requests", type=int, default=20_000, help="to all of them together")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    faults = 0
    with tempfile.TemporaryDirectory() as root:
        os.environ[shared.VARIABLE] = root  # where circuits are built
        for name in options.services:
            count = options.requests // len(options.services)
            outcome = await fuzz(name, Path(root, name), seed=options.seed, count=count)
            faults += len(outcome.faults)
            say(f"{name}: {dict(sorted(outcome.statuses.items()))}", *outcome.faults[:20])
    say(f"{faults} faults")
    return 1 if faults else 0


def say(*lines: str) -> None:
    sys.stdout.write("\n  ".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
