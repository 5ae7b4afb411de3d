"""Certificates are found by their key: one that was compromised once is refused for ever."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_index("ix_certificates_spki_sha256", "certificates", ["spki_sha256"])
