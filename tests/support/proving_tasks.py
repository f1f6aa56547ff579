"""Tasks that tests give to a proving worker: functions of a module, because they are pickled."""

from __future__ import annotations

import os
import signal
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ml.errors import InvalidInput
from ml.proving.tasks import Stages
from ml.proving.worker import Progress


def echo(value: Any, scratch: Path, report: Progress) -> tuple[int, Any]:
    return os.getpid(), value


def sleep(seconds: float, scratch: Path, report: Progress) -> None:
    with Stages(report).stage("sleep"):
        time.sleep(seconds)


def refuse(description: str, scratch: Path, report: Progress) -> None:
    raise InvalidInput(description)


def fill_the_disk(scratch: Path, report: Progress) -> None:
    with Stages(report).stage("witness"):
        Path("/dev/full").write_text("0")


def panic(scratch: Path, report: Progress) -> None:
    import ezkl

    ezkl.felt_to_int("no field element")


def abort(scratch: Path, report: Progress) -> None:
    os.abort()


def die_in_mid_answer(scratch: Path, report: Progress) -> None:
    os.write(int(sys.argv[1]), struct.pack("!i", 1000) + b"the beginning")
    os.kill(os.getpid(), signal.SIGKILL)


def reply_with_a_lock(scratch: Path, report: Progress) -> Any:
    return threading.Lock()


def allocate(by_rust: bool, scratch: Path, report: Progress) -> None:
    if by_rust:
        import ezkl

        ezkl.gen_srs(str(scratch / "srs"), 21)
    else:
        bytearray(10**9)


def reach_the_network(scratch: Path, report: Progress) -> None:
    from ml.proving.native import get_srs

    get_srs(scratch / "srs", 4)


def leave_files(scratch: Path, report: Progress, *, dying: bool = False) -> tuple[Path, int]:
    (scratch / "witness.json").write_text("secret")
    report(str(scratch), None)
    if dying:
        os.abort()
    return scratch, scratch.stat().st_mode & 0o777
