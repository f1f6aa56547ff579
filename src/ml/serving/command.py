"""`serve SERVICE`: the command that runs a service, and the entry point of its image.

    serve classic_ml_inference_service --bind=0.0.0.0:3000 --workers=2

The options have hypercorn's names. The HTTP server, granian or hypercorn, runs inside each worker
of a supervisor of ours: hypercorn's own `--workers 2` cuts requests in flight on SIGTERM, ends
whole when one worker dies, and exits with 0 when the application cannot be built.
"""

from __future__ import annotations

import argparse
import contextlib
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
from ml.extras import why_not_imported
from ml.serving.bind import Address, parse_address
from ml.serving.env_example import env_example
from ml.serving.output import say
from ml.serving.services import find_service, service_names, settings_of
from ml.serving.settings import MOST_SECONDS
from ml.serving.shared_metrics import make_folder

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

__all__ = ["main"]

_MOST_OF_A_HOST = 4096


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
    if options.on == "ray":
        return _run_on_ray(build, options)
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
    if options.on == "ray" and _is_no_port(options.bind):
        parser.error("argument --on: ray listens on one host:port")
    options.server = options.server or ("hypercorn" if options.http2 else "granian")
    return options


def _is_no_port(addresses: list[Address] | None) -> bool:
    return addresses is not None and (len(addresses) > 1 or bool(addresses[0].path))


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
    add("--on", choices=("ray",), help="run replicas on a Ray cluster, not workers on this host")
    add("--replicas", type=_replicas, default=(1, 1), help="with --on ray: a number, or 1:4 (1)")
    add("--cpus", type=_amount, default=1.0, help="with --on ray: of each replica (1)")
    add("--gpus", type=_amount, default=0.0, help="with --on ray: of each replica (0)")
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


def _amount(text: str) -> float:
    value = float(text)
    if not 0 <= value <= _MOST_OF_A_HOST:
        raise argparse.ArgumentTypeError(f"from 0 to {_MOST_OF_A_HOST}")
    return value


def _replicas(text: str) -> tuple[int, int]:
    least, _, most = text.partition(":")
    bounds = _positive(least), _positive(most or least)
    if bounds[0] > bounds[1]:
        raise argparse.ArgumentTypeError("the least before the most, such as 1:4")
    return bounds


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
    def build() -> ServiceApp:
        from ml.serving.factory import build_app

        try:
            return build_app(service)
        except ConfigurationError as error:
            say(f"serve: {error}")
            raise SystemExit(CONFIGURATION_EXIT_CODE) from None

    return build


def _run_on_ray(build: Callable[[], ServiceApp], options: argparse.Namespace) -> int:
    build()  # its settings are judged here, and not in each replica
    try:
        from ml.serving.ray_serve import run_on_ray
    except ImportError as error:
        say(f"serve: {why_not_imported(error)}")
        return CONFIGURATION_EXIT_CODE
    return run_on_ray(options.service, options)


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
    from ml.serving.shared_imports import import_for_workers
    from ml.serving.supervisor import Supervisor
    from ml.serving.worker import bind_fault, run_worker

    if fault := bind_fault(options):
        say(f"serve: {fault}")
        return 1
    supervisor = Supervisor(
        lambda lifeline, alone: run_worker(build, options, lifeline, alone=alone),
        options.workers,
        # The drain delay may take 60 of them, and jobs that save 50.
        stop_seconds=options.graceful_timeout + 120,
        before_forks=lambda: import_for_workers(options.service) if options.workers > 1 else None,
    )
    return supervisor.run()
