"""Revocations that can be holds, end and change, with their history."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    with op.batch_alter_table("revocations") as revocations:
        revocations.add_column(sa.Column("state", sa.Text(), nullable=True))
        revocations.add_column(sa.Column("changes", sa.Integer(), nullable=True))
        revocations.add_column(sa.Column("invalidity_date", sa.BigInteger(), nullable=True))
    op.execute("UPDATE revocations SET state = 'revoked', changes = 1")  # none could be a hold before
    with op.batch_alter_table("revocations") as revocations:
        revocations.alter_column("state", existing_type=sa.Text(), nullable=False)
        revocations.alter_column("changes", existing_type=sa.Integer(), nullable=False)
    op.create_table(
        "revocation_changes",
        sa.Column("certificate_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Integer(), nullable=False),
        sa.Column("invalidity_date", sa.BigInteger(), nullable=True),
        sa.Column("requester", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["certificate_id"], ["certificates.id"], name="fk_revocation_changes_certificate_id"),
        sa.PrimaryKeyConstraint("certificate_id", "number", name="pk_revocation_changes"),
    )
    op.execute(
        "INSERT INTO revocation_changes"
        " (certificate_id, number, state, changed_at, revoked_at, reason, requester)"
        " SELECT certificate_id, 1, state, recorded_at, revoked_at, reason, '' FROM revocations"
    )
