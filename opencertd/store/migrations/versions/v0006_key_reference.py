"""An issuer's key may be elsewhere than in a file."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute("ALTER TABLE issuers RENAME COLUMN key_file TO key_reference")  # one sentence for both databases
