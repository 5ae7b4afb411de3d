"""Requests that wait for somebody to decide about them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "approvals",
        sa.Column("position", _ROW_ID, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("match_key", sa.Text()),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("protocol", sa.Text(), nullable=False),
        sa.Column("requester", sa.Text(), nullable=False),
        sa.Column("requester_label", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("names", sa.Text(), nullable=False),
        sa.Column("spki_sha256", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("validity", sa.BigInteger()),
        sa.Column("transaction_key", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("decided_at", sa.BigInteger()),
        sa.Column("decided_by", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("certificate_id", _ROW_ID),
        sa.ForeignKeyConstraint(["certificate_id"], ["certificates.id"], name="fk_approvals_certificate_id"),
        sa.PrimaryKeyConstraint("position", name="pk_approvals"),
        sa.UniqueConstraint("id", name="uq_approvals_id"),
        sa.UniqueConstraint("match_key", name="uq_approvals_match_key"),
    )
    op.create_index("ix_approvals_until", "approvals", ["until"])
    op.create_index("ix_approvals_certificate_id", "approvals", ["certificate_id"])
    waiting = sa.text("state = 'waiting'")
    op.create_index("ix_approvals_waiting", "approvals", ["requester"], sqlite_where=waiting, postgresql_where=waiting)
