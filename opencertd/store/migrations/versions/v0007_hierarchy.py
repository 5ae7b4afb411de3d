"""Issuers have a state and successors, and cross-certificates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    # Columns are added in place: SQLite cannot rebuild a table that others refer to.
    op.add_column("issuers", sa.Column("state", sa.Text(), nullable=False, server_default="active"))
    op.add_column("issuers", sa.Column("predecessor_id", sa.Text(), nullable=True))
    op.add_column("issuers", sa.Column("published_until", sa.BigInteger(), nullable=True))
    op.create_table(
        "cross_certificates",
        sa.Column("position", ROW_ID, nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("signer_id", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("certificate_sha256", sa.Text(), nullable=False),
        sa.Column("certificate_der", sa.LargeBinary(), nullable=False),
        sa.Column("published_until", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("position", name="pk_cross_certificates"),
        sa.ForeignKeyConstraint(["subject_id"], ["issuers.id"], name="fk_cross_certificates_subject_id"),
        sa.ForeignKeyConstraint(["signer_id"], ["issuers.id"], name="fk_cross_certificates_signer_id"),
        sa.UniqueConstraint("certificate_sha256", name="uq_cross_certificates_certificate_sha256"),
    )
