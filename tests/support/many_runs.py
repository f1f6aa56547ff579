"""A store of jobs with more runs and events than a test can wait for, made by the database."""

from __future__ import annotations

import math
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from sqlalchemy import select

from ml.jobs.database import sync_engine
from ml.jobs.job import JobState
from ml.jobs.migration import migrate
from ml.jobs.schema import jobs
from ml.jobs.stretches import add_stretches

__all__ = ["LONGEST", "fill_store"]

#: The run that has the most events, and is the newest.
LONGEST = "run-0000"

_JOB = """
INSERT INTO jobs (id, number, ticket, seq, kind, state, request, created_at, started_at, ended_at,
    progress, attempt, heartbeat_at, process, reason)
VALUES (:id, :number, :number, :steps + 2, 'ml.finetuning.job', :state, json_object(
    'model_name', 'SmolLM2-135M-Instruct', 'dataset_name', 'rows.jsonl',
    'output_dir', :id || '-model', 'max_steps', :steps, 'learning_rate', 0.0002,
    'per_device_train_batch_size', 2, 'lora_rank', 16, 'seed', :number),
    :now - 60, :now - 50, CASE :state WHEN 'running' THEN NULL ELSE :now END,
    json_object('step', :steps, 'total_steps', :steps, 'loss', 1.0, 'progress', 100.0),
    1, :now, '{}', CASE :state WHEN 'running' THEN NULL ELSE 'The process ended.' END)
"""
#: Events 1 and 2 are of its states; step N is event N + 2. One spike stands in the middle.
_EVENTS = """
WITH RECURSIVE steps(step) AS (SELECT 1 UNION ALL SELECT step + 1 FROM steps WHERE step < :steps)
INSERT INTO job_events (job_id, id, created_at, type, data)
SELECT :id, step + 2, :now - 50 + step * 0.0001, 'progress', json_object(
    'progress', round(100.0 * step / :steps, 2), 'step', step, 'total_steps', :steps,
    'epoch', round(step / 800.0, 4), 'eta_seconds', round(1.5 * (:steps - step), 1),
    'loss', CASE step WHEN :steps / 2 THEN 9.5 ELSE 1.0 + 2000.0 / (step + 1000) END
        + (step * 7919 % 1000) / 5000.0,
    'learning_rate', 0.0002 * (1.0 - 1.0 * step / :steps),
    'grad_norm', 1 + (step * 104729 % 1000) / 2000.0, 'step_time', 1.5,
    'token_accuracy', 0.5, 'memory_bytes', 2147483648 + step)
FROM steps
"""
_STATE = """
INSERT INTO job_events (job_id, id, created_at, type, data)
VALUES (:id, :event, :now - 50, 'status', json_object(
    'status', :state, 'state', :state, 'message', 'The job is ' || :state || '.'))
"""


def fill_store(
    file: Path, *, runs: int, events: int, longest: int, newest: JobState = JobState.RUNNING
) -> None:
    """Write so many runs with so many steps together, `longest` of them of the newest, to SQLite.

    All have ended, but the newest where it is to be another state.
    """
    migrate(f"sqlite:///{file}")
    each = max(0, math.ceil((events - longest) / max(1, runs - 1)))
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for number in range(runs, 0, -1):
            steps, state = (longest, newest) if number == runs else (each, JobState.INTERRUPTED)
            _add_run(connection, runs - number, number, steps, state)
        connection.execute("UPDATE job_counter SET value = ?", (runs,))
        connection.execute("COMMIT")
    _add_stretches(file)


def _add_stretches(file: Path) -> None:
    engine = sync_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        for job_id, last in connection.execute(select(jobs.c.id, jobs.c.seq)).all():
            add_stretches(connection, job_id, 0, last)
    engine.dispose()


def _add_run(
    connection: sqlite3.Connection, place: int, number: int, steps: int, state: JobState
) -> None:
    values = {
        "id": f"run-{place:04d}",
        "number": number,
        "steps": steps,
        "state": state,
        "now": time.time() - 100 * place,
    }
    connection.execute(_JOB, values)
    for event, past in enumerate((JobState.QUEUED, JobState.RUNNING), 1):
        connection.execute(_STATE, values | {"event": event, "state": past})
    connection.execute(_EVENTS, values)
    if state.is_final:
        connection.execute(_STATE, values | {"event": steps + 3})
        connection.execute("UPDATE jobs SET seq = seq + 1 WHERE id = :id", values)
