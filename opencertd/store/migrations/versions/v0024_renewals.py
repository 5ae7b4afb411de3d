"""Orders may ask for a validity, or for certificates that renew themselves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("acme_orders", sa.Column("not_before", sa.BigInteger()))
    op.add_column("acme_orders", sa.Column("not_after", sa.BigInteger()))
    op.add_column("acme_orders", sa.Column("renewal", sa.Text()))
    op.add_column("acme_orders", sa.Column("renews_from", sa.BigInteger()))
    op.create_table(
        "acme_renewals",
        sa.Column(
            "order_id", sa.Text(), sa.ForeignKey("acme_orders.id", name="fk_acme_renewals_order_id"), nullable=False
        ),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(
            "certificate_id",
            ROW_ID,
            sa.ForeignKey("certificates.id", name="fk_acme_renewals_certificate_id"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("order_id", "number", name="pk_acme_renewals"),
        sa.UniqueConstraint("certificate_id", name="uq_acme_renewals_certificate_id"),
    )
