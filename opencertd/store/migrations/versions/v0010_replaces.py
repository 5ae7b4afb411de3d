"""Orders may say which certificate theirs replaces."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("acme_orders", sa.Column("replaces", sa.Text(), nullable=True))
    given = sa.text("replaces IS NOT NULL")
    op.create_index("ix_acme_orders_replaces", "acme_orders", ["replaces"], sqlite_where=given, postgresql_where=given)
