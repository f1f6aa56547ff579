"""A Ray cluster of several nodes on this machine, with a token, whose nodes can be killed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support.processes import (
    ROOT,
    children_of,
    clean_environment,
    free_port,
    is_running,
    until,
)

__all__ = ["RayCluster", "RayNode", "ray_command"]

#: So that a head that died is given up in seconds; and nothing of the machine is measured.
_RAY_SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_memory_monitor_refresh_ms": "0",
}
_STORE_BYTES = 80 * 2**20


def ray_command() -> str | None:
    """Return the command `ray`: of an environment of its own here, or of this one."""
    places = (ROOT / ".venv-ray" / "bin", Path(sys.executable).parent)
    return shutil.which("ray", path=os.pathsep.join(map(str, places)))


class RayNode:
    """The processes of one node."""

    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        command = ray_command()
        assert command is not None
        self.log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [command, "start", "--block", "--disable-usage-stats", *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def pids(self) -> list[int]:
        """Return the process ids of all that runs on the node, its jobs too."""
        found = [self._process.pid]
        for pid in found:
            found += children_of(pid)
        return found

    def kill(self) -> None:
        """End all processes of the node at once, as the loss of a machine does."""
        pids = self.pids()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)  # so that none of them sees another one's end
        pids = sorted({*pids, *self.pids()})
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(30)
        until(lambda: not any(map(is_running, pids)), "the node's processes are gone", 30)

    @property
    def is_up(self) -> bool:
        """Whether it was not ended."""
        return self._process.poll() is None


class RayCluster:
    """A head that runs no jobs, and nodes of one CPU each, all found under one token."""

    def __init__(self, *, head_cpus: int = 0, **environment: str) -> None:
        self.token = secrets.token_hex(16)
        # Ray's sockets are in it, whose paths may have 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))
        self._port, self._dashboard_port = free_port(), free_port()
        self.address = f"http://127.0.0.1:{self._dashboard_port}"
        self.gcs_address = f"127.0.0.1:{self._port}"
        self._head_cpus = head_cpus
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = clean_environment() | _RAY_SETTINGS | environment
        self.environment |= {"RAY_AUTH_TOKEN": self.token, "PATH": path}
        self.nodes: list[RayNode] = []
        self.head: RayNode | None = None

    def start_head(self) -> RayNode:
        """Start the head, or start it again; it knows nothing of what was."""
        self.head = self._start(
            "--head",
            f"--port={self._port}",
            f"--dashboard-port={self._dashboard_port}",
            f"--num-cpus={self._head_cpus}",
            f"--temp-dir={self.folder}",
        )
        end = time.monotonic() + 90
        while len(self._alive_if_up()) != 1:
            assert time.monotonic() < end, self.head.log.read_text()
            time.sleep(0.5)
        return self.head

    def start_node(self, *, waiting: bool = True) -> RayNode:
        """Start a node, and wait until it takes jobs.

        Of two that start at once on one host Ray gives both the name of one socket, and one ends.
        """
        there = len(self.alive())
        node = self._start(f"--address={self.gcs_address}", "--num-cpus=1")
        if not waiting:
            return node
        end = time.monotonic() + 90
        while len(self.alive()) <= there:
            assert node.is_up, node.log.read_text()
            assert time.monotonic() < end, node.log.read_text()
            time.sleep(0.5)  # the head has better things to do than to answer
        return node

    def alive(self) -> list[dict[str, Any]]:
        """Return what the head knows of the nodes that live."""
        reply = self.get("/api/v0/nodes")
        rows: list[dict[str, Any]] = reply["data"]["result"]["result"] if reply else []
        return [row for row in rows if row["state"] == "ALIVE"]

    def _alive_if_up(self) -> list[dict[str, Any]]:
        with contextlib.suppress(httpx.TransportError):
            return self.alive()
        return []

    def get(self, path: str) -> Any:
        """Return what the dashboard answers; None if it does not."""
        headers = {"Authorization": f"Bearer {self.token}"}
        reply = httpx.get(self.address + path, headers=headers, timeout=10)
        return reply.json() if reply.is_success else None

    def request(self, method: str, path: str, body: Any) -> None:
        """Have the dashboard do something."""
        headers = {"Authorization": f"Bearer {self.token}"}
        reply = httpx.request(method, self.address + path, json=body, headers=headers, timeout=60)
        assert reply.is_success, reply.text

    def node_of(self, pid: int) -> RayNode | None:
        """Return the node that a process runs on."""
        return next((node for node in self.nodes if node.is_up and pid in node.pids()), None)

    def _start(self, *arguments: str) -> RayNode:
        log = self.folder / f"node-{len(self.nodes)}.txt"
        more = ["--node-ip-address=127.0.0.1", f"--object-store-memory={_STORE_BYTES}"]
        node = RayNode([*arguments, *more], self.environment, log)
        self.nodes.append(node)
        return node

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for node in reversed(self.nodes):
            if node.is_up:
                node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
