"""What the browser's tests share: jobs in the store, and the page as somebody reads it."""

from __future__ import annotations

import asyncio
import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from playwright.async_api import ConsoleMessage, Locator, Page, Request, expect

from ml.jobs.assignment import Assignment
from ml.jobs.context import JobContext
from ml.jobs.event_type import EventType, phase_event
from ml.jobs.job import Job, JobState
from ml.jobs.store import JobStore

__all__ = ["Dashboard", "Jobs"]

MODEL = "SmolLM2-135M-Instruct"
#: Generous, because the machine may be busy; nothing waits this long when all is well.
PATIENCE_SECONDS = 60.0
expect.set_options(timeout=PATIENCE_SECONDS * 1000)


class Jobs:
    """Jobs of the service, to which happens what the test says.

    This process does for those that run what their own would; they work in `folder/<id>`.
    """

    def __init__(self, store: JobStore, folder: Path) -> None:
        self.store = store
        self._folder = folder
        self._running: dict[str, JobContext] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    async def queue(self, job_id: str, **request: Any) -> Job:
        wished = {
            "model_name": MODEL,
            "dataset_name": "rows.jsonl",
            "output_dir": f"{job_id}-model",
        }
        return await self.store.create("ml.finetuning.job", wished | request, job_id)

    async def start(self, job_id: str, **request: Any) -> None:
        """Queue a job, and take it from the queue, in which it is the only one."""
        await self.queue(job_id, **request)
        await self.claim(job_id)
        await self.tell(job_id, *phase_event("training", "Training on 16 examples"))

    async def claim(self, job_id: str) -> None:
        claimed = await self.store.claim_next("test")
        assert claimed is not None
        assert claimed.id == job_id
        context = JobContext(Assignment(self.store.url, self._folder / job_id), job_id)
        self._running[job_id] = self._stack.enter_context(context)

    def context(self, job_id: str) -> JobContext:
        """Return what the process of a running job works with."""
        return self._running[job_id]

    async def tell(self, job_id: str, type: EventType, data: dict[str, Any]) -> None:  # noqa: A002
        await asyncio.to_thread(self._running[job_id].event, type, data)

    async def step(self, job_id: str, *steps: int, total: int = 60, better: float = 0) -> None:
        """Do these steps; each tenth is followed by an evaluation."""
        for step in steps:
            loss = 1 + 2 * math.exp(-step / 20) - better
            position = {
                "progress": round(100 * step / total, 2),
                "step": step,
                "total_steps": total,
                "epoch": round(step / 8, 4),
                "eta_seconds": 1.5 * (total - step),
            }
            numbers = {
                **position,
                "loss": loss,
                "learning_rate": 2e-4 * (1 - step / total),
                "grad_norm": 1 + math.sin(step) / 4,
                "step_time": 1.5,
            }
            await self.tell(job_id, EventType.PROGRESS, numbers)
            if step % 10 == 0:
                numbers["eval_loss"] = loss + 0.2
                await self.tell(job_id, EventType.PROGRESS, numbers)
            await asyncio.to_thread(self._running[job_id].progress, **numbers)

    async def log(self, job_id: str, message: str, level: str = "INFO") -> None:
        await self.tell(job_id, EventType.LOG, {"level": level, "message": message})

    async def end(self, job_id: str, state: JobState, reason: str | None = None) -> None:
        if state is JobState.SUCCEEDED:
            result = {"model": f"{job_id}-model", "archive": {"name": f"{job_id}-model.zip"}}
            events = [(EventType.COMPLETE, result)]
            await self.store.transition(job_id, state, result=result, events=events)
        elif state is JobState.FAILED:
            events = [(EventType.ERROR, {"message": reason})]
            await self.store.transition(job_id, state, reason=reason, events=events)
        else:
            await self.store.transition(job_id, state, reason=reason)


class Dashboard:
    """The page in a browser.

    Attributes:
        complaints: what stood in the console as a warning or an error.
        requests: the address of everything that the page asked for.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("warning", "error"):
            self.complaints.append(message.text)

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)

    def excuse(self, part: str) -> None:
        """Take complaints from the list that the test has brought about; there is one at least."""
        kept = [text for text in self.complaints if part not in text]
        assert len(kept) < len(self.complaints), f"nobody complained of {part}"
        self.complaints = kept

    def find(self, selector: str) -> Locator:
        return self.page.locator(selector)

    def card(self, job_id: str) -> Locator:
        return self.find(f'[data-job="{job_id}"]')

    async def shows(self, selector: str, text: str) -> None:
        await expect(self.find(selector)).to_contain_text(text)

    async def shows_points(
        self, count: int, chart: str = "loss", seconds: float = PATIENCE_SECONDS
    ) -> None:
        plot = self.find(f"#{chart}-chart .plot")
        await expect(plot).to_have_attribute("data-points", str(count), timeout=seconds * 1000)

    async def points(self, chart: str = "loss") -> int:
        """Return how many points a chart has."""
        return int(await self.find(f"#{chart}-chart .plot").get_attribute("data-points") or 0)

    async def messages(self) -> list[str]:
        return await self.find("#messages li").all_inner_texts()

    async def shows_number(self, name: str, value: str) -> None:
        """Wait until a number under the progress bar has a value."""
        number = self.find(f'#numbers dt:text-is("{name}") + dd')
        await expect(number).to_have_text(value, timeout=PATIENCE_SECONDS * 1000)

    async def numbers(self) -> dict[str, str]:
        """Return the numbers under the progress bar by their names."""
        names = await self.find("#numbers dt").all_inner_texts()
        return dict(zip(names, await self.find("#numbers dd").all_inner_texts(), strict=True))

    async def ink(self, chart: str = "loss") -> int:
        """Return how many pixels of a chart are drawn on."""
        script = """canvas => {
          const {width, height} = canvas;
          const copy = new OffscreenCanvas(width, height).getContext(
            "2d", {willReadFrequently: true});
          copy.drawImage(canvas, 0, 0);
          const {data} = copy.getImageData(0, 0, width, height);
          let drawn = 0;
          for (let at = 3; at < data.length; at += 4) drawn += data[at] > 0;
          return drawn;
        }"""
        drawn: int = await self.find(f"#{chart}-chart canvas").evaluate(script)
        return drawn

    async def draws_anew(self, ink: int) -> None:
        """Wait until the loss chart has another number of drawn pixels than this."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self.ink() == ink:  # noqa: ASYNC110 (a canvas has no event)
                await asyncio.sleep(0.05)

    def open_streams(self) -> int:
        """Return how many event streams were asked for."""
        return sum("/events?" in url for url in self.requests)
