"""Server processes on free loopback ports: started, asked once, their CPU time read, ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

__all__ = [
    "KEY",
    "PEERS_PYTHON",
    "REQUEST",
    "ROOT",
    "SERVE",
    "SMALL_MODEL",
    "Server",
    "bare_quart",
    "bentoml",
    "free_port",
    "litserve",
    "ours",
    "running",
    "started",
]

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "benchmarks" / "peers"
PEERS_PYTHON = ROOT / "benchmarks" / ".venv" / "bin" / "python"
REQUEST = ROOT / "benchmarks" / "request.json"
#: The command `serve`, whether or not it is installed.
SERVE = [sys.executable, "-c", "import sys; from ml.serving.command import main; sys.exit(main())"]
KEY = "a-key-for-the-benchmark"
READY_WITHIN_SECONDS = 180
OUR_PREFIXES = (
    "CLASSIC_INF_",
    "EZKL_",
    "FLASK_LLM_",
    "TRAINER_",
)  # a developer's own settings stay out
AnyServer = TypeVar("AnyServer", bound="Server")
#: Its body is `REQUEST`.
SMALL_MODEL = {"model_source": "BUILT_IN", "model_args": {"name": "classifier_69"}}
_TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """A server and all its processes.

    Children are found by their parents: BentoML's lead sessions of their own, and LitServe's
    survive the end of their parent, so neither a process group nor a SIGTERM reaches all of them.
    """

    #: How long its first process may take to end all others by itself.
    stop_seconds = 5.0

    def __init__(
        self, name: str, command: list[str], port: int, body: Path = REQUEST, **settings: str
    ) -> None:
        self.name = name
        self.settings = settings
        self.port = port
        self.body = body
        self.command = command
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(OUR_PREFIXES)},
            "OMP_NUM_THREADS": "1",
            "BENTOML_DO_NOT_TRACK": "True",
            **settings,
        }

    def start(self, **pipes: int) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by stop)
        told = {"stdout": self._log, "stderr": self._log, **pipes}
        self._process = subprocess.Popen(self.command, cwd=ROOT, env=self._environment, **told)

    def wait_until_it_answers(self) -> None:
        end = time.monotonic() + READY_WITHIN_SECONDS
        while True:
            try:
                self.ask()
            except (OSError, urllib.error.URLError) as error:
                if self._process.poll() is not None or time.monotonic() > end:
                    text = self.log_tail()
                    raise SystemExit(f"{self.name} does not answer: {error}\n{text}") from None
                time.sleep(0.2)
            else:
                return

    def log_tail(self) -> str:
        """Return the end of what it logged."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-2000:]

    def ask(self) -> Any:
        """Return the answer to the body: two numbers for its one row."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/service_output",
            self.body.read_bytes(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"},
        )
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310
            values = json.load(reply)["values"]
        assert len(values) == 1, values
        assert len(values[0]) == 2, values
        return values

    def cpu_seconds(self) -> float:
        """Return the CPU time of all processes until now, to 1/100 s."""
        return sum(_cpu_ticks(pid) for pid in self.processes()) / _TICKS

    def megabytes(self) -> float:
        """Return the memory of all processes: of a page that several have, each has its share."""
        return sum(_shared_kilobytes(pid) for pid in self.processes()) / 1000

    def processes(self) -> list[int]:
        """Return the server's process and its descendants."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (fields := _stat(int(entry.name))):
                children.setdefault(int(fields[1]), []).append(int(entry.name))
        found = [self._process.pid]
        for pid in found:
            found.extend(children.get(pid, []))
        return found

    def stop(self) -> None:
        """End all processes: the first by SIGTERM, what is left of the others by SIGKILL."""
        born = {pid: _born(pid) for pid in self.processes()}
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self.stop_seconds)
        for pid, moment in born.items():
            if moment and _born(pid) == moment:  # a pid may have passed to somebody else
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()


@contextlib.contextmanager
def started(server: Server) -> Iterator[None]:
    """Run a server meanwhile; if that fails, the end of its log is told."""
    server.start()
    try:
        yield
    except BaseException:
        print(server.log_tail(), file=sys.stderr)
        raise
    finally:
        server.stop()


@contextlib.contextmanager
def running(*servers: AnyServer) -> Iterator[Sequence[AnyServer]]:
    with contextlib.ExitStack() as started:
        for server in servers:
            server.start()
            started.callback(server.stop)
        for server in servers:
            server.wait_until_it_answers()
        yield servers


def ours(
    name: str,
    *,
    model: dict[str, Any],
    body: Path = REQUEST,
    server: str = "granian",
    workers: int = 1,
    processor: int | None = None,
    **settings: Any,
) -> Server:
    """Return our service with a bearer key; settings as `max_batch_size=1`."""
    port = free_port()
    variables = {
        f"CLASSIC_INF_{key.upper()}": str(value)
        for key, value in {
            "workflow_kw_args": json.dumps(model),
            "api_keys": KEY,
            "drain_delay_seconds": 0,
            **settings,
        }.items()
    }
    command = [*SERVE, "classic_ml_inference_service", f"--bind=127.0.0.1:{port}"]
    command += [f"--workers={workers}", f"--server={server}"]
    if processor is not None:
        command = ["taskset", "--cpu-list", str(processor), *command]
    return Server(name, command, port, body, **variables)


def bare_quart() -> Server:
    port = free_port()
    return Server("bare Quart", [sys.executable, str(PEERS / "bare_quart.py"), str(port)], port)


def litserve(model_file: Path | None = None, batch: int = 1, body: Path = REQUEST) -> Server:
    port = free_port()
    command = [str(PEERS_PYTHON), str(PEERS / "litserve_server.py"), str(port)]
    if model_file is not None:
        command += [str(model_file), str(batch)]
    return Server("LitServe", command, port, body)


def bentoml() -> Server:
    port = free_port()
    command = [str(PEERS_PYTHON), "-m", "bentoml", "serve", "bentoml_service:Classifier"]
    command += [f"--working-dir={PEERS}", "--host=127.0.0.1", f"--port={port}"]
    return Server("BentoML", command, port)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat from the state on: parent 1, user 11, system 12."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _shared_kilobytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    [line] = [line for line in text.splitlines() if line.startswith("Pss:")]
    return int(line.split()[1])


def _born(pid: int) -> str:
    """Return when a process started, in ticks since boot; empty if there is none."""
    return "".join(_stat(pid)[19:20])


def _cpu_ticks(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0
