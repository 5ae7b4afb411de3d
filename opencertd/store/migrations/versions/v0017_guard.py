"""Whose validations fail again and again, for pausing clients that nobody looks after."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.create_table(
        "acme_failures",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("last_failed_at", sa.BigInteger(), nullable=False),
        sa.Column("paused_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(["account_id"], ["acme_accounts.id"], name="fk_acme_failures_account_id"),
        sa.PrimaryKeyConstraint("account_id", "name", name="pk_acme_failures"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_acme_failures_last_failed_at", "acme_failures", ["last_failed_at"])
