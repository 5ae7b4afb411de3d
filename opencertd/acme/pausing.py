"""Clients that nobody looks after any more: an account that fails for a name for weeks gets no new orders for it.

Such a client is a timer on a machine that was moved or forgotten. It costs lookups and rows at every turn, and hides
among its failures those that somebody should see. It is paused until a person resumes it, or until it proves the name.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta

from opencertd.errors import Refusal, RefusalKind, RefusedName
from opencertd.model.names import AltName

STREAK_ENDS = timedelta(days=7)
"""Where nothing was tried for so long, what failed before is forgotten: somebody tries now and then, and no timer."""

_SHOWN = 3


@dataclass(frozen=True)
class PauseTerms:
    """An account is paused for a name after `failures` validations that failed, the first of them `after` ago.

    `help_url`: a page for people who are paused.
    """

    after: timedelta
    failures: int
    help_url: str | None = None


class Turn(enum.Enum):
    """What happens with a name."""

    ORDERED = "refused where the account is paused for it"
    FAILED = "one failure more, by which the account may be paused"
    PROVEN = "all is forgotten"


@dataclass(frozen=True)
class Streak:
    """Something that the failures of an account at some names are asked, or told of, with the deed itself."""

    terms: PauseTerms
    turn: Turn
    account_id: str
    names: tuple[AltName, ...]


@dataclass(frozen=True)
class Failures:
    """Validations of a name by an account that failed, `failed` times since `since`, with no success between."""

    account_id: str
    name: AltName
    failed: int
    since: datetime
    last_failed_at: datetime
    paused_at: datetime | None


def refusal(found: tuple[Failures, ...], help_url: str | None) -> Refusal:
    """What an account is told that asks for names it is paused for; `found` has one at least."""
    shown = ", ".join(each.name.value for each in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    whose = found[0].account_id
    whose = f"-- {whose}" if whose.startswith("-") else whose
    which = f"{whose} {found[0].name.value}" if len(found) == 1 else f"--all-names {whose}"
    words = (
        f"paused: this account has failed to prove control of {shown}{more} for weeks, without one success; "
        f"put right what fails, then have whoever runs this CA resume it "
        f"(opencert acme paused resume {which})"
    )
    names = (RefusedName(RefusalKind.RATE_LIMITED, each.name.kind.value, each.name.value, _why(each)) for each in found)
    link = None if help_url is None else (help_url, "help")
    return Refusal(RefusalKind.RATE_LIMITED, words, names=tuple(names), link=link)


def _why(each: Failures) -> str:
    since, last = each.since.strftime("%Y-%m-%d"), each.last_failed_at.strftime("%Y-%m-%d")
    return f"paused after {each.failed} validations that failed since {since}, the last on {last}"
