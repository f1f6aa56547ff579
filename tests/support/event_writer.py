"""A process that adds events to a job: `event_writer <store URL> <job id> <how many> <name>`."""

from __future__ import annotations

import sys

from ml.jobs.own_job import OwnJob

if __name__ == "__main__":
    url, job_id, count, name = sys.argv[1:]
    with OwnJob(url, job_id) as own_job:
        for number in range(int(count)):
            own_job.add_event("log", {"writer": name, "number": number})
