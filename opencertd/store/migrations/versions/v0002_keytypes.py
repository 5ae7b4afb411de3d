"""How an issuer signs, where its key can in more than one way (RSA-PSS)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("issuers", sa.Column("scheme", sa.Text(), nullable=True))
