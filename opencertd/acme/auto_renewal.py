"""Short-term certificates that renew themselves (STAR, RFC 8739): what is asked and granted, and when each is due.

Certificates of one order follow each other in steps of its lifetime. Each begins before its step does, so that it is
there, and good, while the one before it still is (§3.5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil

from opencertd.acme.times import parse_time
from opencertd.errors import Refusal, RefusalKind
from opencertd.model.request import Window

AHEAD = 0.6
"""Which part of a lifetime before its step a certificate is there: the half that §3.3 wants, and time for a repair."""

_MOST_SECONDS = 10**9
_WHAT = "'auto-renewal'"


@dataclass(frozen=True)
class StarTerms:
    """What is offered (§3.2). `by_get`: whether orders may have their certificate read by everybody who knows its URL.

    `profiles`: for which; None: for all.
    """

    min_lifetime: timedelta
    max_duration: timedelta
    by_get: bool = False
    profiles: frozenset[str] | None = None

    def offers(self, profile: str) -> bool:
        """Whether orders of that profile may have it."""
        return self.profiles is None or profile in self.profiles


@dataclass(frozen=True)
class AutoRenewal:
    """What an order has of it (§3.1.1). `start`: None for as soon as it is finalized. `adjust`: as the client asked."""

    end: datetime
    lifetime: timedelta
    start: datetime | None = None
    adjust: timedelta = timedelta(0)
    by_get: bool = False

    @property
    def padding(self) -> timedelta:
        """How long before its step a certificate begins, and is there; whole seconds (§3.5)."""
        ahead = timedelta(seconds=ceil(self.lifetime.total_seconds() * AHEAD))
        return max(min(self.lifetime, self.adjust), ahead)


@dataclass(frozen=True)
class Slot:
    """One certificate of the series, numbered from 0: its first and its last second."""

    number: int
    not_before: datetime
    not_after: datetime

    @property
    def window(self) -> Window:
        """As it is asked of the core."""
        return Window(self.not_before, self.not_after, rolling=True)


def parse_auto_renewal(value: object) -> AutoRenewal | None:
    """What a client asks for, None when nothing. Raises MALFORMED."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise Refusal(RefusalKind.MALFORMED, f"{_WHAT} is not an object")
    end, lifetime = _when(value, "end-date"), _seconds(value, "lifetime")
    if end is None or not lifetime:
        raise Refusal(RefusalKind.MALFORMED, f"{_WHAT} needs an 'end-date' and a 'lifetime'")
    return AutoRenewal(
        end=end,
        lifetime=lifetime,
        start=_when(value, "start-date"),
        adjust=_seconds(value, "lifetime-adjust") or timedelta(0),
        by_get=value.get("allow-certificate-get") is True,
    )


def _when(value: Mapping[str, object], member: str) -> datetime | None:
    text = value.get(member)
    if text is None:
        return None
    if not isinstance(text, str):
        raise Refusal(RefusalKind.MALFORMED, f"{member!r} of {_WHAT} is not a string")
    return parse_time(text, f"{member!r} of {_WHAT}")


def _seconds(value: Mapping[str, object], member: str) -> timedelta | None:
    count = value.get(member)
    if count is None:
        return None
    if type(count) is not int or not 0 <= count <= _MOST_SECONDS:
        raise Refusal(RefusalKind.MALFORMED, f"{member!r} of {_WHAT} is not a number of seconds")
    return timedelta(seconds=count)


def granted(wish: AutoRenewal, terms: StarTerms | None, profile: str, now: datetime) -> AutoRenewal:
    """What an order gets of its wish: all of it, but the reading by GET where that is not offered (§3.4).

    Raises MALFORMED.
    """
    if terms is None or not terms.offers(profile):
        where = "here" if terms is None else f"for the profile {profile!r}"
        raise Refusal(RefusalKind.MALFORMED, f"certificates that renew themselves ({_WHAT}) are not offered {where}")
    start = now if wish.start is None else wish.start
    if wish.lifetime < terms.min_lifetime:
        least = int(terms.min_lifetime.total_seconds())
        raise Refusal(RefusalKind.MALFORMED, f"'lifetime' of {_WHAT} can be {least} seconds at the least")
    if wish.end <= max(start, now):
        raise Refusal(RefusalKind.MALFORMED, f"'end-date' of {_WHAT} is over before there could be a certificate")
    if wish.end - start > terms.max_duration or wish.end - now > 2 * terms.max_duration:
        most = int(terms.max_duration.total_seconds())
        raise Refusal(RefusalKind.MALFORMED, f"'end-date' of {_WHAT} can be {most} seconds after its beginning at most")
    return replace(wish, by_get=wish.by_get and terms.by_get)


def asked_windows(renewal: AutoRenewal, now: datetime) -> tuple[Window, Window]:
    """The first certificate of an order that is finalized now, and one of the full length: both must be possible."""
    full = Window(now, now + renewal.lifetime + renewal.padding, rolling=True)
    return slot(renewal, first_step(renewal, now), 0).window, full


def first_step(renewal: AutoRenewal, now: datetime) -> datetime:
    """When the first step of an order begins that is finalized now."""
    now = now.replace(microsecond=0)
    return now if renewal.start is None else max(renewal.start, now)


def slot(renewal: AutoRenewal, first: datetime, number: int) -> Slot:
    """The certificate of that number. `first`: when the first step began.

    The first one begins as much before its step as the client asked for, and not before the order's start-date.
    """
    step = first + number * renewal.lifetime
    begin = step - (renewal.padding if number else min(renewal.lifetime, renewal.adjust))
    if not number and renewal.start is not None:
        begin = max(begin, renewal.start)
    return Slot(number, begin, min(step + renewal.lifetime, renewal.end))


def slot_at(renewal: AutoRenewal, first: datetime, now: datetime) -> Slot:
    """The newest certificate that is due: what could not be issued in its time is passed over."""
    due = (now - first + renewal.padding) // renewal.lifetime
    return slot(renewal, first, max(0, min(due, _last(renewal, first))))


def due_after(renewal: AutoRenewal, first: datetime, number: int) -> datetime | None:
    """When the next certificate after that one is due; None when that was the last."""
    if number >= _last(renewal, first):
        return None
    return slot(renewal, first, number + 1).not_before


def _last(renewal: AutoRenewal, first: datetime) -> int:
    """The number of the last certificate: its step begins before the end."""
    return max(0, ceil((renewal.end - first) / renewal.lifetime) - 1)
