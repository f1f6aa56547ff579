"""`serve SERVICE`: the command that runs a service, and the entry point of its image.

    serve classic_ml_inference_service --bind=0.0.0.0:3000 --workers=2

The options have hypercorn's names. The HTTP server, granian or hypercorn, runs inside each worker
of a supervisor of ours: hypercorn's own `--workers 2` cuts requests in flight on SIGTERM, ends
whole when one worker dies, and exits with 0 when the application cannot be built.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dotenv import load_dotenv

from ml import __version__
from ml.errors import CONFIGURATION_EXIT_CODE, ConfigurationError
from ml.serving.bind import Address, parse_address
from ml.serving.env_example import env_example
from ml.serving.output import say
from ml.serving.services import find_service, service_names, settings_of
from ml.serving.settings import MOST_SECONDS
from ml.serving.shared_metrics import make_folder

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

__all__ = ["main"]

_FACTORY = (
    "give a service, or module:factory, a function without arguments that returns what "
    "ml.serving.app.create_service makes"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a service until it is told to stop; returns the exit code."""
    sys.path.insert(0, str(Path.cwd()))  # a service or a workflow class may lie beside the caller
    options = _parse(arguments)
    if options.env_file is not None and (fault := _env_file_fault(options.env_file)):
        say(f"serve: {fault}")
        return CONFIGURATION_EXIT_CODE
    os.environ.setdefault("OMP_NUM_THREADS", str(_math_threads(options.workers)))
    try:
        options.service = find_service(options.service)
        if options.print_env:
            sys.stdout.write(env_example(options.service, settings_of(options.service)))
            return 0
        options.bind = options.bind or [_default_address()]
        build = _factory(options.service)
    except ConfigurationError as error:
        say(f"serve: {error}")
        return CONFIGURATION_EXIT_CODE
    if options.check:
        app = build()
        sys.stdout.write(json.dumps(app.settings.public_view(), indent=2) + "\n")
        return 0
    with _shared_metrics(options.workers):
        return _supervise(build, options)


def _env_file_fault(path: Path) -> str | None:
    """Take the settings of a file into the environment; return why that cannot be, or None."""
    try:
        path.read_text(encoding="utf-8")
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        return f"{path} is no text in UTF-8, as a file of settings is"
    return None if load_dotenv(path) else f"there are no settings in {path}"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.http2 and options.server == "granian":
        parser.error("argument --http2: leave --server out, or give --server=hypercorn")
    options.server = options.server or ("hypercorn" if options.http2 else "granian")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="serve",
        usage="serve SERVICE [options] | serve --list",
        description=__doc__.partition("\n")[0],
        epilog="services: " + ", ".join(service_names()),
    )
    add = parser.add_argument
    add(
        "service", metavar="SERVICE", help="its name, or words of it such as llm; or module:factory"
    )
    add(
        "-b",
        "--bind",
        action="append",
        type=_address,
        help="host:port; may be repeated (127.0.0.1:$PORT)",
    )
    add("-w", "--workers", type=_positive, default=1, help="processes (1)")
    add("--graceful-timeout", type=_seconds, default=30, help="seconds for requests in flight (30)")
    add("--keep-alive", type=_seconds, default=75, help="seconds an idle connection is kept (75)")
    add("--backlog", type=int, default=2048, help="connections the kernel queues (2048)")
    add("--root-path", default="", help="prefix of all paths that a proxy in front leaves on")
    add("--certfile", help="TLS certificate")
    add("--keyfile", help="TLS key")
    add("--server", choices=("granian", "hypercorn"), help="the HTTP server inside (granian)")
    add("--http2", action="store_true", help="speak HTTP/2 too, which hypercorn does")
    add("--env-file", type=Path, help="file of settings, as docker's --env-file reads it")
    add("--check", action="store_true", help="print the effective settings and exit")
    add("--print-env", action="store_true", help="print all settings as a file to copy and exit")
    add("--list", action=_ListServices, help="print the services' names and exit")
    add("--version", action="version", version=f"infernet-ml-services {__version__}")
    return parser


class _ListServices(argparse.Action):
    def __init__(self, **options: Any) -> None:
        super().__init__(nargs=0, **options)

    def __call__(self, *_: object) -> None:
        sys.stdout.write("".join(f"{name}\n" for name in service_names()))
        raise SystemExit(0)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"from 0 to {MOST_SECONDS} seconds")
    return value


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _default_address() -> Address:
    port = os.environ.get("PORT") or "8000"
    try:
        return parse_address(f"127.0.0.1:{port}")
    except ValueError:
        raise ConfigurationError(f"PORT: {port!r} is no port from 0 to 65535") from None


def _math_threads(workers: int) -> int:
    """Return the OpenMP threads of a worker: half of its share of the cores, at least one.

    The other half is for the event loop. More threads than that spin against each other: on two
    cores, two of them halved the throughput.
    """
    return max(1, (os.cpu_count() or 1) // workers // 2)


def _factory(service: str) -> Callable[[], ServiceApp]:
    module, _, name = service.partition(":")

    def build() -> ServiceApp:
        from ml.serving.app import ServiceApp

        create = getattr(importlib.import_module(module), name or "create_app", None)
        if create is None:
            raise _refusal(f"{module!r} has no {name or 'create_app'!r}")
        app = create() if _is_factory(create) else None
        if not isinstance(app, ServiceApp):
            raise _refusal(f"{service!r} is no application of this project: {_FACTORY}")
        return app

    return build


def _is_factory(create: Any) -> bool:
    """Return whether it is something to call without arguments."""
    try:
        inspect.signature(create).bind()
    except (TypeError, ValueError):  # the latter for what of Python itself has no signature
        return False
    return True


def _refusal(fault: str) -> SystemExit:
    say(f"serve: {fault}")
    return SystemExit(CONFIGURATION_EXIT_CODE)


@contextlib.contextmanager
def _shared_metrics(workers: int) -> Iterator[None]:
    """Give several workers a folder to share their metrics in, for as long as they run."""
    if workers == 1 or "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        yield
        return
    folder = make_folder(os.getpid(), empty=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _supervise(build: Callable[[], ServiceApp], options: argparse.Namespace) -> int:
    # Imported here: they bring in prometheus_client, which looks for the shared folder.
    from ml.serving.supervisor import Supervisor
    from ml.serving.worker import bind_fault, run_worker

    if fault := bind_fault(options):
        say(f"serve: {fault}")
        return 1
    supervisor = Supervisor(
        lambda lifeline, alone: run_worker(build, options, lifeline, alone=alone),
        options.workers,
        stop_seconds=options.graceful_timeout + 70,  # the drain delay may take 60 of them
    )
    return supervisor.run()
