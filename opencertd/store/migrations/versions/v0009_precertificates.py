"""Precertificates for the logs of Certificate Transparency."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "precertificates",
        sa.Column("certificate_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("precertificate_der", sa.LargeBinary(), nullable=False),
        sa.Column("signed_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["certificate_id"], ["certificates.id"], name="fk_precertificates_certificate_id"),
        sa.PrimaryKeyConstraint("certificate_id", name="pk_precertificates"),
    )
