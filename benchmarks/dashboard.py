"""How soon the trainer's dashboard can be used with many runs, and what it costs.

    python -m benchmarks.dashboard [--runs 200] [--events 1000000] [--longest 200000]

A service on a store with as many events, and Chromium: from the navigation until the list is drawn
and until the first chart has its curve; the bytes that came; what is in the page.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, async_playwright

from benchmarks.figures import Figure
from benchmarks.results import Record, recording
from ml.jobs.process import Process
from ml.jobs.scheduler import lease_name
from ml.jobs.store import JobStore
from tests.browser.conftest import CHROMIUM, FLAGS, Trainer
from tests.support.many_runs import LONGEST, fill_store

_PATIENCE_SECONDS = 300
#: Of what is measured; of all else, numbers.
_UNITS = {
    "list drawn": "ms",
    "first chart drawn": "ms",
    "its newest step drawn": "ms",
    "received in all": "KiB",
    "heap": "MiB",
}
#: Sets the times, in milliseconds since the navigation, as the page gets there.
_WATCH = """
const times = window.times = {};
const look = () => {
  const now = performance.now();
  const [card, plot, step] = [".job", ".plot", ".step"].map((part) => document.querySelector(part));
  if (card) times.list ??= now;
  if (Number(plot?.dataset.points) > 1) times.chart ??= now;
  if (step?.textContent === "step NEWEST") times.newest ??= now;
  requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""


async def measure(browser: Browser, url: str, job_id: str, steps: int) -> dict[str, float]:
    """Return the milliseconds until the page is there, its bytes, nodes and heap."""
    context = await browser.new_context(viewport={"width": 1440, "height": 1000})
    page = await context.new_page()
    devtools = await context.new_cdp_session(page)
    await devtools.send("Network.enable")
    received = 0

    def add(data: dict[str, Any]) -> None:
        nonlocal received
        received += data["dataLength"]

    devtools.on("Network.dataReceived", add)
    await page.add_init_script(_WATCH.replace("NEWEST", str(steps)))
    await page.goto(f"{url}/dashboard#job={job_id}")
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while "newest" not in (times := await page.evaluate("times")):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    points = await page.locator("#loss-chart .plot").get_attribute("data-points")
    await devtools.send("HeapProfiler.collectGarbage")
    measured = await devtools.send("Runtime.getHeapUsage")
    nodes = await page.evaluate("document.querySelectorAll('*').length")
    await context.close()
    return {
        "list drawn": times["list"],
        "first chart drawn": times["chart"],
        "its newest step drawn": times["newest"],
        "points of the chart": float(points or 0),
        "received in all": received / 1024,
        "elements": nodes,
        "heap": measured["usedSize"] / 2**20,
    }


async def answers(browser: Browser, url: str, record: Record) -> None:
    """Measure each answer that the page asks for, once."""
    table = record.table("answer", "time", "size")
    page = await browser.new_page()
    await page.goto(f"{url}/health")
    for path in ("/jobs", "/jobs?status=running", f"/jobs/{LONGEST}"):
        began = time.perf_counter()
        size = await page.evaluate(
            "path => fetch(path).then(r => r.text()).then(t => t.length)", path
        )
        took = Figure.of(1e3 * (time.perf_counter() - began), places=0, unit="ms")
        table.row(f"`{path}`", took, Figure.of(size / 1024, places=0, unit="KiB"))
    await page.close()


async def run(options: argparse.Namespace, root: Path, record: Record) -> None:
    trainer = Trainer(root / "trainer")
    file = Path(trainer.store_url.removeprefix("sqlite:///"))
    fill_store(file, runs=options.runs, events=options.events, longest=options.longest)
    async with JobStore(trainer.store_url) as store, async_playwright() as playwright:
        process = Process.numbered(os.getpid())  # this process leads, so that no run is started
        await store.acquire_lease(lease_name(process.host), f"{process}/benchmark", 3600)
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        with trainer.server() as server:
            await asyncio.to_thread(server.wait_ready)
            await answers(browser, trainer.url, record)
            rounds = [
                await measure(browser, trainer.url, LONGEST, options.longest)
                for _ in range(options.rounds)
            ]
            table = record.table("page", "opened first", "opened again")
            for name in rounds[0]:
                first, *others = (one[name] for one in rounds)
                unit = _UNITS.get(name, "")
                table.row(
                    name,
                    Figure.of(first, places=0, unit=unit),
                    Figure.of(*others, places=0, unit=unit),
                )
        await browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.dashboard")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--events", type=int, default=1_000_000, help="of all runs together")
    parser.add_argument("--longest", type=int, default=200_000, help="events of the newest run")
    parser.add_argument("--rounds", type=int, default=6, help="two at least")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, recording("dashboard") as record:
        asyncio.run(run(options, Path(name), record))


if __name__ == "__main__":
    main()
