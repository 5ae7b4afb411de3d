"""Which key a device attested is kept with its challenge."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("acme_challenges", sa.Column("attested_spki", sa.LargeBinary()))
