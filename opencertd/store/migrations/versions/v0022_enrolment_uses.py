"""What a certificate came of is found by the certificate: SQLite looks for that whenever it writes one."""

from __future__ import annotations

from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.create_index("ix_enrolment_uses_certificate_id", "enrolment_uses", ["certificate_id"])
