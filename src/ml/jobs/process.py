"""Processes by more than their number, which the system gives to others again."""

from __future__ import annotations

import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

__all__ = ["Process"]


@dataclass(frozen=True, slots=True)
class Process:
    """A process of a host, told from later ones of the same number by when it was started.

    Attributes:
        started: in the kernel's ticks since the host was started; 0 where that is not known.
    """

    host: str
    pid: int
    started: int

    @classmethod
    def numbered(cls, pid: int) -> Self:
        """Return the process that has this number here now."""
        return cls(socket.gethostname(), pid, _stat(pid)[1])

    @classmethod
    def of(cls, data: dict[str, Any]) -> Self | None:
        """Return the process that `data` describes, None if it describes none."""
        try:
            return cls(str(data["host"]), int(data["pid"]), int(data["started"]))
        except (KeyError, TypeError, ValueError):
            return None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the process that `str()` gave; what follows a further "/" is not looked at."""
        return cls.of(dict(zip(("host", "pid", "started"), text.split("/"), strict=False)))

    def __str__(self) -> str:
        return f"{self.host}/{self.pid}/{self.started}"

    def data(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return asdict(self)

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, on this host."""
        return self.host == socket.gethostname()

    @property
    def is_gone(self) -> bool:
        """Whether it was on this host and has ended."""
        state, started = _stat(self.pid)
        return self.is_here and (state in ("", "Z", "X") or started != self.started)


def _stat(pid: int) -> tuple[str, int]:
    """Return a process's state, "" if there is none, and when it was started."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return fields[0], int(fields[19])
