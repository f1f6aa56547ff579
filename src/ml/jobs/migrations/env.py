"""What Alembic runs: the migrations, on the connection that `ml.jobs.migration` hands over."""

from __future__ import annotations

from alembic import context

from ml.jobs.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="job_store_version",
)
# The caller has begun a transaction and holds the lock; it commits.
context.run_migrations()
