"""ACME accounts know their terms and who vouches for them; keys for external account binding."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    # Columns are added in place: SQLite cannot rebuild a table that others refer to.
    op.add_column("acme_accounts", sa.Column("terms_url", sa.Text(), nullable=True))
    op.add_column("acme_accounts", sa.Column("eab_key", sa.Text(), nullable=True))
    op.add_column("acme_accounts", sa.Column("binding", sa.Text(), nullable=True))
    op.create_index("ix_acme_accounts_eab_key", "acme_accounts", ["eab_key"])
    op.add_column("acme_orders", sa.Column("eab_key", sa.Text(), nullable=True))
    op.create_table(
        "acme_eab_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=True),
        sa.Column("names", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=True),
        sa.Column("most_accounts", sa.Integer(), nullable=True),
        sa.Column("accounts", sa.Integer(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_acme_eab_keys"),
    )
