"""An issuer may be distrusted without being revoked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.add_column("issuers", sa.Column("distrusted_at", sa.BigInteger()))
