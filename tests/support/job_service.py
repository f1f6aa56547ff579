"""A process that does what a web worker does for jobs: `job_service <store URL> <folder>`.

Options behind these: "resume" what was interrupted; be "hasty" with what does not stop.

It runs until SIGTERM, and says "ready" on standard output.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from ml.jobs.executors.local import LocalExecutor
from ml.jobs.scheduler import Scheduler
from ml.jobs.settings import JobSettings
from ml.jobs.store import JobStore


async def serve(url: str, folder: Path, *options: str) -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    async with JobStore(url) as store:
        grace_seconds = 1 if "hasty" in options else 10
        executor = LocalExecutor(url, folder, JobSettings(grace_seconds=grace_seconds), {})
        scheduler = Scheduler(
            store,
            executor,
            grace_seconds=grace_seconds,
            resume_interrupted="resume" in options,
        )
        await scheduler.start()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await told.wait()
        await scheduler.stop()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]))
