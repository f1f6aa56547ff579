"""What two pages of the dashboard, and the server, hold while a run goes on for an hour.

    python -m benchmarks.dashboard_hour [--minutes 60] [--speed 10]

A training with two steps a second, with evaluations, samples and log lines, beside which a short
run comes and goes each five minutes; told to the store so many times as fast. One page has each
step's message switched on, the other is as it is opened. Both look all the time.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from playwright.async_api import Browser, CDPSession, Page, async_playwright

from benchmarks.figures import Figure
from benchmarks.results import Record, Table, recording
from ml.jobs.event_type import EventType
from ml.jobs.job import JobState
from ml.jobs.memory import resident_bytes
from tests.browser.conftest import CHROMIUM, FLAGS, Trainer, jobs_of
from tests.browser.dashboard import Jobs

_LONG = "an-hour"
_STEPS_A_MINUTE = 120
#: In steps of the long run.
_SAMPLES_EACH, _LOG_EACH, _SHORT_EACH = 200, 40, 600
_SHORT_STEPS = range(1, 13)
_PATIENCE_SECONDS = 120
_QUARTERS = 4
_MIB = 2**20
#: Of each page.
_HELD = ("heap", "nodes", "listeners")


class Watched:
    """An open page, and what Chromium tells of it."""

    def __init__(self, page: Page, devtools: CDPSession) -> None:
        self._page = page
        self._devtools = devtools

    @classmethod
    async def open(cls, browser: Browser, url: str, *, with_steps: bool) -> Watched:
        """Open the dashboard in a window of its own."""
        context = await browser.new_context(viewport={"width": 1440, "height": 1000})
        page = await context.new_page()
        devtools = await context.new_cdp_session(page)
        await devtools.send("Performance.enable")
        await page.goto(f"{url}/dashboard#job={_LONG}")
        if with_steps:
            await page.locator("#log-steps").check()
        return cls(page, devtools)

    async def held(self, step: int) -> list[Figure]:
        """Return the heap, nodes and listeners, once it has drawn this step."""
        legend = self._page.locator("#loss-chart .step")
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while await legend.text_content() != f"step {step}":  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        await self._devtools.send("HeapProfiler.collectGarbage")
        told = (await self._devtools.send("Performance.getMetrics"))["metrics"]
        metrics = {one["name"]: one["value"] for one in told}
        heap = Figure.of(metrics["JSHeapUsedSize"] / _MIB, places=1, unit="MiB")
        return [
            heap,
            *(Figure.of(metrics[name], places=0) for name in ("Nodes", "JSEventListeners")),
        ]


async def tell(jobs: Jobs, first: int, last: int, total: int, seconds_a_step: float) -> None:
    """Do these steps of the long run, each at its time, and what happens beside them."""
    began = time.monotonic()
    for step in range(first, last + 1):
        await asyncio.sleep(max(0, began + (step - first) * seconds_a_step - time.monotonic()))
        await jobs.step(_LONG, step, total=total)
        if step % _LOG_EACH == 0:
            await jobs.log(_LONG, f"wrote a checkpoint at step {step}")
        if step % _SAMPLES_EACH == 0:
            answers = [{"prompt": f"Question {n}?", "answer": f"{n} " * 30} for n in range(3)]
            await jobs.tell(_LONG, EventType.SAMPLE, {"step": step, "samples": answers})
        if step % _SHORT_EACH == 0:
            await jobs.start(f"short-{step}")
            await jobs.step(f"short-{step}", *_SHORT_STEPS, total=_SHORT_STEPS[-1])
            await jobs.end(f"short-{step}", JobState.SUCCEEDED)


async def report(table: Table, pages: list[Watched], step: int, pid: int) -> None:
    """Add a line of what all hold once this step is drawn."""
    held = [figure for page in pages for figure in await page.held(step)]
    server = Figure.of(resident_bytes(pid) / _MIB, places=0, unit="MiB")
    table.row(str(step // _STEPS_A_MINUTE), *held, server)


async def run(options: argparse.Namespace, root: Path, record: Record) -> None:
    trainer = Trainer(root / "trainer")
    total = options.minutes * _STEPS_A_MINUTE
    quarter = total // _QUARTERS
    seconds_a_step = 60 / _STEPS_A_MINUTE / options.speed
    columns = [f"{page}: {what}" for page in ("each step", "as opened") for what in _HELD]
    async with jobs_of(trainer) as jobs, async_playwright() as playwright:
        await jobs.start(_LONG)
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        with trainer.server() as server:
            await asyncio.to_thread(server.wait_ready)
            pages = [
                await Watched.open(browser, trainer.url, with_steps=shown)
                for shown in (True, False)
            ]
            table = record.table("minute", *columns, "server")
            done = 0
            for end in (_STEPS_A_MINUTE, *range(quarter, total + 1, quarter)):
                await tell(jobs, done + 1, end, total, seconds_a_step)
                await report(table, pages, end, server.process.pid)
                done = end
            await browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.dashboard_hour")
    parser.add_argument("--minutes", type=int, default=60, help="of the training; more than 4")
    parser.add_argument("--speed", type=float, default=10, help="how many times as fast it is told")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, recording("dashboard_hour") as record:
        asyncio.run(run(options, Path(name), record))


if __name__ == "__main__":
    main()
