"""Passwords that are good for so many certificates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "enrolment_passwords",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("names", sa.Text(), nullable=False),
        sa.Column("profiles", sa.Text()),
        sa.Column("uses", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_enrolment_passwords"),
    )
    op.create_index("ix_enrolment_passwords_until", "enrolment_passwords", ["until"])
    op.create_table(
        "enrolment_uses",
        sa.Column("password_id", sa.Text(), nullable=False),
        sa.Column("certificate_id", _ROW_ID, nullable=False),
        sa.ForeignKeyConstraint(["password_id"], ["enrolment_passwords.id"], name="fk_enrolment_uses_password_id"),
        sa.ForeignKeyConstraint(["certificate_id"], ["certificates.id"], name="fk_enrolment_uses_certificate_id"),
        sa.PrimaryKeyConstraint("password_id", "certificate_id", name="pk_enrolment_uses"),
    )
