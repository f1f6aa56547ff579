"""Real server processes on free ports of this machine, and what a test does with them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

__all__ = ["PREFIX", "Server", "clean_environment", "free_port", "until"]

ROOT = Path(__file__).parents[2]
PREFIX = "CLASSIC_INF_"
SERVICE = "classic_ml_inference_service"
#: Generous, because the machine may be busy; nothing waits this long when all is well.
PATIENCE_SECONDS = 90.0
#: A new connection for each request, as the node makes them.
CLIENT = httpx.Client(timeout=PATIENCE_SECONDS, limits=httpx.Limits(max_keepalive_connections=0))
_SCRIPTS = Path(sys.executable).parent
_HOLDERS: list[socket.socket] = []
_FOREIGN = (
    "HUGGING_FACE",
    "HF_",
    "TORCH_",
    "USE_JIT",
    "PROMETHEUS_",
    "OMP_",
    "QUART_",
    "PORT",
    "TRAINER_",
    "EZKL_",
    "INPUT_PATH",
    "OUTPUT_PATH",
    "WORKING_PATH",
    "QUERY_",
    "OTEL_",
)


def clean_environment(**settings: Any) -> dict[str, str]:
    """Return this environment without any service's settings, and with these."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith((PREFIX, *_FOREIGN))
    }
    kept["PYTHONPATH"] = str(ROOT)
    kept["OMP_NUM_THREADS"] = "1"  # several test processes share the machine's cores
    return kept | service_variables(**settings)


def service_variables(**settings: Any) -> dict[str, str]:
    """Return settings as environment variables: `max_in_flight=2` is `CLASSIC_INF_MAX_IN_FLIGHT`.

    A workflow class of `tests.support.workflows` may be given as itself.
    """
    variables = {}
    for name, value in settings.items():
        if isinstance(value, type):
            value = f"{value.__module__}.{value.__qualname__}"
        text = value if isinstance(value, str) else json.dumps(value)
        variables[name if name.isupper() else PREFIX + name.upper()] = text
    return variables


def free_port() -> int:
    """Return a port that nothing listens on, and that no other test of this machine gets.

    A bound socket keeps it for this process: as long as that does not listen, a server with
    SO_REUSEADDR may bind the port too, and the kernel gives it to nobody who asks for any port.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    _HOLDERS.append(holder)
    port: int = holder.getsockname()[1]
    return port


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Return the condition's first true value; fails when it has none in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(httpx.TransportError):
            if value := condition():
                return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds:g} seconds: {what}")


class Server:
    """A server process; as a context manager it is ended, with its workers, at the end.

    `adopting` lets it adopt orphans of its workers, as the first process of a container does.
    `ignoring_hangup` starts it as `nohup` would, `within` by a command in front of its own.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        port: int,
        environment: dict[str, str],
        directory: Path | None = None,
        adopting: bool = False,
        ignoring_hangup: bool = False,
        within: Sequence[str] = (),
    ) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.workers: set[int] = set()
        command = [str(_SCRIPTS / command[0]), *command[1:]]
        before = "ctypes.CDLL(None).prctl(36, 1, 0, 0, 0);" if adopting else ""
        # The tests themselves may run under `nohup` or in the background, which children inherit.
        for name in ("SIGHUP", "SIGINT"):
            if signal.getsignal(signal.Signals[name]) is signal.SIG_IGN:
                before += f"signal.signal(signal.{name}, signal.SIG_DFL);"
        if ignoring_hangup:
            before += "signal.signal(signal.SIGHUP, signal.SIG_IGN);"
        if before:
            code = f"import ctypes, os, signal, sys;{before}os.execv(sys.argv[1], sys.argv[1:])"
            command = [sys.executable, "-c", code, *command]
        command = [*within, *command]
        self.process = subprocess.Popen(
            command,
            env=environment,
            cwd=directory or ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._output: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._readers = [
            threading.Thread(target=self._read, args=(name,), daemon=True) for name in self._output
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str) -> None:
        with getattr(self.process, name) as stream:
            for line in stream:
                self._output[name].append(line)

    @property
    def stdout(self) -> str:
        return "".join(self._output["stdout"])

    @property
    def stderr(self) -> str:
        return "".join(self._output["stderr"])

    def log(self, event: str) -> list[dict[str, Any]]:
        """Return the JSON log lines of an event."""
        lines = [json.loads(line) for line in self.stdout.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    # --- talking to it ------------------------------------------------------------------------

    def get(self, path: str, **options: Any) -> httpx.Response:
        return CLIENT.get(self.url + path, **options)

    def post(self, data: Any, *, source: int = 1, **options: Any) -> httpx.Response:
        message = {"source": source, "data": data}
        return CLIENT.post(self.url + "/service_output", json=message, **options)

    def metrics(self) -> dict[str, float]:
        """Return each sample of /metrics by its name and labels."""
        lines = self.get("/metrics").text.splitlines()
        samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def wait_ready(self, workers: int = 1) -> Server:
        """Wait until this many workers have their workflow loaded."""

        def loaded() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended:\n{self.stdout}\n{self.stderr}")
            self.children()
            return len(self.log("workflow_ready")) >= workers and (
                self.get("/health/ready").status_code == 200
            )

        until(loaded, f"{workers} workers ready")
        return self

    # --- its processes ------------------------------------------------------------------------

    def children(self) -> set[int]:
        """Return the process ids of its workers."""
        pid = self.process.pid
        listing = Path(f"/proc/{pid}/task/{pid}/children")
        found = {int(child) for child in listing.read_text().split()} if listing.exists() else set()
        self.workers |= found
        return found

    def signal(self, number: int) -> None:
        self.children()
        self.process.send_signal(number)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Return the exit code, once it ended and all its output is read."""
        code = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(5)
        return code

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.children()
        self.process.kill()
        for pid in self.workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.wait()


def is_running(pid: int) -> bool:
    """Return whether a process exists and has not ended.

    Its first thread may be gone before the others, and until the last is gone it holds its
    sockets.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
        threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
    except (FileNotFoundError, ProcessLookupError):
        return False
    return threads > 1 or status.rpartition(")")[2].split()[0] != "Z"


def children_of(pid: int) -> list[int]:
    """Return the process ids of a process's children, whichever of its threads started them."""
    listings = Path(f"/proc/{pid}/task").glob("*/children")
    return sorted(int(child) for listing in listings for child in listing.read_text().split())


def files_with(folder: Path, *texts: bytes) -> list[Path]:
    """Return the files under a folder that hold one of these texts.

    Another process reads them: one that has a SQLite database open, and closes its file once more,
    loses the locks on it (https://www.sqlite.org/howtocorrupt.html, 2.2).
    """
    wanted = [f"--regexp={os.fsdecode(text)}" for text in texts]
    options = ["--recursive", "--text", "--fixed-strings", "--files-with-matches", "--no-messages"]
    found = subprocess.run(
        ["grep", *options, *wanted, str(folder)], capture_output=True, text=True, check=False
    )
    return [Path(line) for line in found.stdout.splitlines()]


@contextlib.contextmanager
def in_background(function: Callable[[], Any], times: int = 1) -> Iterator[list[Any]]:
    """Run a function in threads; at the end the list holds what each returned or raised."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(function())
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(times)]
    for thread in threads:
        thread.start()
    try:
        yield results
    finally:
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
