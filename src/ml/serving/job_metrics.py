"""What Prometheus sees of jobs. Import it as late as `ml.serving.metrics`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from ml.jobs.job import Job
from ml.jobs.memory import resident_bytes
from ml.jobs.process import Process

if TYPE_CHECKING:
    from ml.jobs.figures import Figures
    from ml.jobs.store import JobStore

__all__ = ["JobMetrics", "job_families"]

#: Each running job is a label value of its own: of more of them, the newest alone are told.
_MOST_RUNNING = 64


class JobMetrics:
    """Reads the numbers from the store when Prometheus asks, so any worker tells the same.

    `store` may raise `NotReady`.
    """

    def __init__(self, store: Callable[[], JobStore]) -> None:
        self._store = store

    async def __call__(self) -> list[Metric]:
        """Return the families of now."""
        figures = await self._store().figures(_MOST_RUNNING)
        return await asyncio.to_thread(job_families, figures)


def job_families(figures: Figures) -> list[Metric]:
    """Return the metrics of a store's jobs; reads the memory of those that run here."""
    jobs = _Gauge("jobs", "Jobs by their state", "state")
    seconds = _Gauge("jobs_run_seconds", "That jobs ran in their last attempt, together", "state")
    for state, number in figures.numbers.items():
        jobs.tell(state, number)
        seconds.tell(state, figures.seconds[state])
    waiting = GaugeMetricFamily(
        "jobs_waiting_seconds",
        "Since the next job was queued; 0 where none waits",
        value=figures.waiting_seconds,
    )
    return [jobs, seconds, waiting, *_families_of_running(figures.running)]


def _families_of_running(running: Iterable[Job]) -> list[Metric]:
    seconds = _Gauge("job_seconds", "How long a running job has run", "job_id")
    step = _Gauge("job_step", "Of a running job, the last step that it told of", "job_id")
    steps = _Gauge("job_steps", "Of a running job, the steps that it will have made", "job_id")
    loss = _Gauge("job_loss", "Of a running job, the loss of its last step", "job_id")
    memory = _Gauge("job_memory_bytes", "Resident, of a running job's processes here", "job_id")
    for job in running:
        seconds.tell(job.id, time.time() - (job.started_at or time.time()))
        step.tell(job.id, job.progress.get("step"))
        steps.tell(job.id, job.progress.get("total_steps"))
        loss.tell(job.id, job.progress.get("loss"))
        memory.tell(job.id, _memory_bytes(job))
    return [seconds, step, steps, loss, memory]


def _memory_bytes(job: Job) -> int | None:
    process = Process.of(job.process)
    if process is None or not process.is_here or process.is_gone:
        return None
    return resident_bytes(process.pid)


class _Gauge(GaugeMetricFamily):
    """A gauge with one label. It is not called `job`: Prometheus has its own label of that name."""

    def __init__(self, name: str, documentation: str, label: str) -> None:
        super().__init__(name, documentation, labels=[label])

    def tell(self, label: str, value: Any) -> None:
        """Add a value, unless it is none: what a job tells as its progress is up to its kind."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            self.add_metric([label], value)
