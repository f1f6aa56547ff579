"""A process that adds events to a job: `event_writer <URL> <folder> <job id> <how many> <name>`."""

from __future__ import annotations

import sys
from pathlib import Path

from ml.jobs.assignment import Assignment
from ml.jobs.context import JobContext
from ml.jobs.event_type import EventType

if __name__ == "__main__":
    url, folder, job_id, count, name = sys.argv[1:]
    with JobContext(Assignment(url, Path(folder)), job_id) as context:
        for number in range(int(count)):
            context.event(EventType.LOG, {"writer": name, "number": number})
