"""What an order says of certificates that renew themselves, as its row keeps it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from opencertd.acme.auto_renewal import AutoRenewal


def renewal_json(renewal: AutoRenewal | None) -> dict[str, Any] | None:
    """Times in seconds since 1970."""
    if renewal is None:
        return None
    kept = {
        "end": int(renewal.end.timestamp()),
        "lifetime": int(renewal.lifetime.total_seconds()),
        "adjust": int(renewal.adjust.total_seconds()),
        "by_get": renewal.by_get,
    }
    return kept if renewal.start is None else {**kept, "start": int(renewal.start.timestamp())}


def renewal_of(kept: dict[str, Any] | None) -> AutoRenewal | None:
    """What `renewal_json` kept."""
    if kept is None:
        return None
    start = kept.get("start")
    return AutoRenewal(
        end=datetime.fromtimestamp(kept["end"], UTC),
        lifetime=timedelta(seconds=kept["lifetime"]),
        start=None if start is None else datetime.fromtimestamp(start, UTC),
        adjust=timedelta(seconds=kept["adjust"]),
        by_get=kept["by_get"],
    )
