"""Times as ACME writes them: RFC 3339, read in whatever zone, shown in UTC and whole seconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from opencertd.errors import Refusal, RefusalKind

_RFC_3339 = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ](?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]{1,12})?"
    r"(?P<zone>[Zz]|[+-][0-9]{2}:[0-9]{2})\Z"
)


def parse_time(text: str, what: str) -> datetime:
    """A time in aware UTC; parts of a second, which certificates do not have, are left out. Raises MALFORMED."""
    match = _RFC_3339.match(text)
    try:
        if match is not None:
            zone = match["zone"].upper().replace("Z", "+00:00")
            return datetime.fromisoformat(f"{match['day']}T{match['time']}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise Refusal(RefusalKind.MALFORMED, f"{what} is not a time as RFC 3339 writes it, such as 2030-01-31T12:00:00Z")


def format_time(when: datetime) -> str:
    """Whole seconds, in UTC."""
    return when.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
