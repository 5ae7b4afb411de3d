"""Which keys an ACME account had before is kept: records in DNS may name it by any of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.create_table(
        "acme_prior_keys",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("thumbprint", sa.Text(), nullable=False),
        sa.Column("used_until", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["acme_accounts.id"], name="fk_acme_prior_keys_account_id"),
        sa.PrimaryKeyConstraint("account_id", "thumbprint", name="pk_acme_prior_keys"),
        sqlite_with_rowid=False,
    )
