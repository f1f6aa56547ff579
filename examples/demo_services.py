"""The processes of the demo, each with a log of its own, and how they are asked over HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from ml.serving.services import find_service

ROOT = Path(__file__).resolve().parent.parent
READY_WITHIN_SECONDS = 300
ASK_WITHIN_SECONDS = 300
#: A trainer lets a job save before it ends.
END_WITHIN_SECONDS = 60
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Process = subprocess.Popen[bytes]


class DemoError(Exception):
    """The demo cannot go on."""


class Services:
    """Processes that end with this one, however it is told to end.

    Each has a session of its own: a terminal's Ctrl-C reaches this process alone, which then ends
    them, once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.urls: dict[str, str] = {}
        self._processes: dict[str, Process] = {}
        self._started = time.monotonic()

    def __enter__(self) -> Services:
        for number in _SIGNALS:
            signal.signal(number, signal.default_int_handler)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    def start(self, name: str, port: int, *, workers: int = 1, **settings: str) -> str:
        """Start a service from its example settings; returns its address."""
        port = int(os.environ.get(f"DEMO_{name.upper()}_PORT", port))
        serve = str(Path(sys.executable).with_name("serve"))
        service = find_service(name)
        say(f"Starting {service} on port {port} …")
        example = ROOT / "services" / service / ".env.example"
        options = [f"--bind=127.0.0.1:{port}", f"--workers={workers}", f"--env-file={example}"]
        command = [serve, service, *options]
        self.urls[name] = f"http://127.0.0.1:{port}"
        self._run(name, [command], settings)
        return self.urls[name]

    def run(self, name: str, *commands: list[str]) -> str:
        """Start commands that run one after the other; returns the name to wait for."""
        self._run(name, list(commands), {})
        return name

    def _run(self, name: str, commands: list[list[str]], settings: dict[str, str]) -> None:
        # The last one takes the shell's place, and with it its signals.
        *first, last = [shlex.join(command) for command in commands]
        script = " && ".join([*first, f"exec {last}"])
        with (self.folder / f"{name}.log").open("wb") as log, _uninterrupted():
            self._processes[name] = subprocess.Popen(
                ["/bin/sh", "-c", script],
                env=os.environ | settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    # --- waiting ------------------------------------------------------------------------------

    def wait_for(self, name: str) -> None:
        """Wait for the end of commands. Raises `DemoError` if they fail."""
        if code := self._processes[name].wait():
            raise self._ended(name, code)
        del self._processes[name]

    def wait_until_ready(self, url: str) -> None:
        """Wait until a service answers. Raises `DemoError` if it never will."""
        name = next(name for name, own in self.urls.items() if own == url)
        end = time.monotonic() + READY_WITHIN_SECONDS
        while not is_ready(url):
            self._check()
            if time.monotonic() > end:
                raise DemoError(f"{name} is not ready within {READY_WITHIN_SECONDS} seconds.")
            time.sleep(0.2)
        say(f"\n{name} is ready, {time.monotonic() - self._started:.0f} seconds after the start.")

    def wait(self) -> None:
        """Wait until a service ends, which none does by itself. Raises `DemoError`."""
        while True:
            self._check()
            time.sleep(0.5)

    def _check(self) -> None:
        for name, process in self._processes.items():
            if code := process.poll():
                raise self._ended(name, code)

    def _ended(self, name: str, code: int) -> DemoError:
        hint = f"(DEMO_{name.upper()}_PORT chooses another port)" if name in self.urls else ""
        return DemoError(f"{name} ended with code {code} {hint}\n{self._log(name)[-2000:]}")

    # --- the end ------------------------------------------------------------------------------

    def stop(self) -> None:
        """End all processes with what they have under way; a signal meanwhile kills them."""
        for number in _SIGNALS:
            signal.signal(number, self._kill)
        for name, process in self._processes.items():
            if process.poll() is None:
                # Not SIGINT, which is a traceback while Python starts. A service tells its workers
                # itself; commands have a shell in front.
                tell = os.kill if name in self.urls else os.killpg
                tell(process.pid, signal.SIGTERM)
        end = time.monotonic() + END_WITHIN_SECONDS
        for process in self._processes.values():
            try:
                process.wait(timeout=max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._kill(0, None)

    def _kill(self, _number: int, _frame: FrameType | None) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def logs_are_clean(self) -> bool:
        """Return whether no log has a traceback, and show those that do."""
        dirty = [path for path in self.folder.glob("*.log") if "Traceback" in path.read_text()]
        for path in dirty:
            say(f"\n{path.name} has a traceback:\n{path.read_text()[-4000:]}")
        return not dirty

    def _log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Keep signals until the block is done: no process starts that nobody knows."""
    kept: list[int] = []
    before = {n: signal.signal(n, lambda number, _: kept.append(number)) for n in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if kept:
        raise KeyboardInterrupt


# --- HTTP ---------------------------------------------------------------------------------------


def is_ready(url: str) -> bool:
    """Return whether a service is. Raises `DemoError` if its workflow cannot be loaded."""
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=5):
            return True
    except urllib.error.HTTPError as error:
        state = json.load(error)
        if state.get("state") == "failed":
            raise DemoError(f"{url} failed: {state['description']}") from None
    except OSError:
        pass
    return False


def get(url: str) -> Any:
    """Return the JSON at an address."""
    return _read(urllib.request.Request(url))


def post(url: str, body: object) -> Any:
    """Return the JSON that a JSON body is answered with."""
    headers = {"Content-Type": "application/json"}
    return _read(urllib.request.Request(url, json.dumps(body).encode(), headers))


def _read(request: urllib.request.Request) -> Any:
    try:
        with urllib.request.urlopen(request, timeout=ASK_WITHIN_SECONDS) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        raise DemoError(f"{request.full_url}: {error.code}: {error.read().decode()}") from None
    except OSError as error:
        raise DemoError(f"{request.full_url}: {error}") from None


def read_events(url: str) -> Iterator[dict[str, Any]]:
    """Yield the data of a stream of server-sent events until it ends."""
    with urllib.request.urlopen(url, timeout=ASK_WITHIN_SECONDS) as stream:
        for line in stream:
            if line.startswith(b"data:"):
                yield json.loads(line.removeprefix(b"data:"))


def say(text: str) -> None:
    """Write a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
