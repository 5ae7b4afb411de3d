"""Orders say to when they are of use, so that those that are not can be found and removed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("acme_orders", sa.Column("useful_until", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(
        "UPDATE acme_orders SET useful_until = COALESCE("
        "(SELECT certificates.not_after FROM certificates WHERE certificates.id = acme_orders.certificate_id), expires)"
    )
    op.create_index("ix_acme_orders_useful_until", "acme_orders", ["useful_until"])
