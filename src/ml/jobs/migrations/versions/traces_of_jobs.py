"""The trace of the request that made a job."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column."""
    op.add_column("jobs", sa.Column("trace", sa.Text))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("jobs", "trace")
