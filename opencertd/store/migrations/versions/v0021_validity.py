"""Orders may ask from when until when their certificate is good."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.add_column("acme_orders", sa.Column("not_before", sa.BigInteger()))
    op.add_column("acme_orders", sa.Column("not_after", sa.BigInteger()))
