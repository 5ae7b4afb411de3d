"""What is left of each allowance, for limits on how much is asked of the CA."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "rate_limits",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("used_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "key", name="pk_rate_limits"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_rate_limits_used_until", "rate_limits", ["used_until"])
