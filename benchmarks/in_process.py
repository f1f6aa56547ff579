"""What a request takes without a server around it, and whose code takes it.

    python -m benchmarks.in_process [--requests 2000] [--rounds 5]

Applications are called in this process, as a server calls them, one request at a time, or for the
TGI client as many at once as there are connections. The shares are cProfile's, which makes small
functions look longer than they are; what is written in C counts for who called it.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import time
from collections import Counter
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.figures import Figure
from benchmarks.results import Record, recording
from benchmarks.servers import KEY, REQUEST, ROOT, SMALL_MODEL, running
from benchmarks.tgi import TEXT, tgi_upstream

#: Of the profiled time; what is under it is summed up.
LEAST_SHARE = 0.03
TGI_CONNECTIONS = 32
READY_WITHIN_SECONDS = 30.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.in_process", description=__doc__)
    parser.add_argument("--requests", type=int, default=2000, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    body = REQUEST.read_bytes()
    text = json.dumps({"source": 1, "data": {"text": TEXT}}).encode()
    upstream = tgi_upstream(0.02)
    with recording("in_process") as record, running(upstream):
        os.environ |= {
            "CLASSIC_INF_WORKFLOW_KW_ARGS": json.dumps(SMALL_MODEL),
            "TGI_INF_WORKFLOW_POSITIONAL_ARGS": json.dumps([f"http://127.0.0.1:{upstream.port}"]),
            **{f"{prefix}_API_KEYS": KEY for prefix in ("CLASSIC_INF", "TGI_INF")},
            **{f"{prefix}_LOG_REQUESTS": "false" for prefix in ("CLASSIC_INF", "TGI_INF")},
        }
        table = record.table("a request, c", "CPU")
        profiles = {}
        for name, make, sent, c in (
            ("bare Quart", _bare_quart, body, 1),
            ("classic service", _classic, body, 1),
            ("TGI client", _tgi, text, TGI_CONNECTIONS),
        ):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                times, profile = runner.run(_measure(make(), sent, c, options))
            table.row(f"{name}, {c}", Figure.of(*times, places=0, unit="µs"))
            profiles[name] = profile
        for name, profile in profiles.items():
            _add_shares(record, name, profile)


def _bare_quart() -> Any:
    from benchmarks.peers.bare_quart import app

    return app


def _classic() -> Any:
    from classic_ml_inference_service.app import create_app

    return create_app()


def _tgi() -> Any:
    from tgi_client_inference_service.app import create_app

    return create_app()


async def _measure(
    app: Any, body: bytes, connections: int, options: argparse.Namespace
) -> tuple[list[float], cProfile.Profile]:
    """Return the microseconds of CPU of a request in each round, and the profile of one more."""

    async def a_round() -> float:
        each = options.requests // connections
        began = time.process_time()
        await asyncio.gather(*(_ask(app, body, each) for _ in range(connections)))
        return 1e6 * (time.process_time() - began) / (each * connections)

    await app.startup()
    end = time.monotonic() + READY_WITHIN_SECONDS
    while await _answer(app, body) != 200:  # it loads
        if time.monotonic() > end:
            raise SystemExit(f"{app.name} is not ready")
        await asyncio.sleep(0.1)
    await a_round()
    times = [await a_round() for _ in range(options.rounds)]
    profile = cProfile.Profile()
    profile.enable()
    await a_round()
    profile.disable()
    await app.shutdown()
    return times, profile


async def _ask(app: Any, body: bytes, count: int) -> None:
    for _ in range(count):
        if (status := await _answer(app, body)) != 200:
            raise SystemExit(f"{app.name} answers {status}")


async def _answer(app: Any, body: bytes) -> int:
    """Ask as an ASGI server does; return the status."""
    status = 0
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if not messages:
            await asyncio.Event().wait()  # the client stays
        return messages.pop()

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    headers = {
        "host": "127.0.0.1",
        "content-type": "application/json",
        "content-length": str(len(body)),
        "authorization": f"Bearer {KEY}",
    }
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/service_output",
        "raw_path": b"/service_output",
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    await app(scope, receive, send)
    return status


def _add_shares(record: Record, name: str, profile: cProfile.Profile) -> None:
    taken: Counter[str] = Counter()
    statistics: Any = pstats.Stats(profile)
    for (file, *_), (_, _, seconds, _, callers) in statistics.stats.items():
        if file != "~":
            taken[_owner(file)] += seconds
            continue
        for (its_file, *_), (_, _, its_seconds, _) in callers.items():
            taken[_owner(its_file)] += its_seconds
    whole = taken.total()
    table = record.table(f"whose code: {name}", "share")
    rest = 0.0
    for owner, seconds in taken.most_common():
        if seconds < LEAST_SHARE * whole:
            rest += seconds
            continue
        table.row(owner, Figure.of(100 * seconds / whole, places=0, unit="%"))
    table.row("others", Figure.of(100 * rest / whole, places=0, unit="%"))


def _owner(file: str) -> str:
    """Return the package that a file is of, of ours with the one below it."""
    path = Path(file)
    if path.is_relative_to(ROOT / "src"):
        return ".".join(path.relative_to(ROOT / "src").with_suffix("").parts[:2])
    if "site-packages" in path.parts:
        return path.parts[path.parts.index("site-packages") + 1]
    return "asyncio" if "asyncio" in path.parts else "Python's own"


if __name__ == "__main__":
    main()
