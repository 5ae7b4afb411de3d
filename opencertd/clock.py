"""The one clock: every time the CA writes or compares comes from here, so that tests can hold it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time. Delays are the reactor's business (`IReactorTime`)."""

    def now(self) -> datetime:
        """The present as an aware UTC time."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class FixedClock:
    """A clock that moves only when told; for tests and rehearsals."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def advance(self, step: timedelta) -> None:
        """Move by `step`, which may be negative (clocks are set back in real life)."""
        self._now += step
