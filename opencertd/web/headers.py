"""Header fields that every answer has, and how a date stands in one."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

SECURITY_HEADERS = (
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Content-Security-Policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""On every answer. No Strict-Transport-Security: it would bind every port of the host, and CRLs are served plainly."""


def http_date(moment: datetime) -> bytes:
    """IMF-fixdate (RFC 9110 §5.6.7)."""
    return format_datetime(moment.astimezone(UTC), usegmt=True).encode("ascii")
