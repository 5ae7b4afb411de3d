"""How often a challenge is tried, and how many validations of one account run at once: so that nobody waits for ever.

RFC 8555 §8.2 lets a server try again, shows the last error meanwhile, and lets a client ask for another attempt.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from math import ceil

from opencertd.acme.states import Problem

PASSING = frozenset({"dns", "connection", "tls", "incorrectResponse"})
"""Types of errors that may go away by themselves: records that spread, servers that start."""

_FIRST_PAUSE = timedelta(seconds=1)
_LONGEST_PAUSE = timedelta(minutes=1)
ON_REQUEST = timedelta(seconds=1)
"""How soon after a client asks for it another attempt may begin: also where it asks when it means to look."""


def next_attempt(problem: Problem, first_failed_at: datetime, now: datetime, patience: timedelta) -> datetime | None:
    """When to try again after an attempt that began by `first_failed_at` or later failed; None when that was the last.

    The pauses double: each is as long as all before it, from 1 second to a minute. The last attempt is when
    `patience` since the first failure is over.
    """
    end = first_failed_at + patience
    if problem.type not in PASSING or now >= end:
        return None
    pause = min(max(now - first_failed_at, _FIRST_PAUSE), _LONGEST_PAUSE)
    return min(now + pause, end)


def seconds_to_next(problem: Problem | None, now: datetime) -> int:
    """Whole seconds after which the next attempt has begun, whenever the last one was (RFC 8555 §8.2).

    As pauses double, the next attempt is no later than twice as long after the first failure as it is now.
    """
    waited = timedelta() if problem is None or problem.since is None else now - problem.since
    return ceil(min(max(waited, _FIRST_PAUSE), _LONGEST_PAUSE).total_seconds())


class Shares:
    """What each account has under way in this process: at most `limit` at once, so that others have their turn.

    An account beyond that comes back later, and the later the more of its validations had to.
    """

    _SHORTEST = timedelta(seconds=0.5)
    _LONGEST = timedelta(seconds=10)
    _EACH = timedelta(seconds=0.02)

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._busy: Counter[str] = Counter()
        self._sent_away: Counter[str] = Counter()

    def enter(self, account_id: str, now: datetime) -> datetime | None:
        """None when the account may begin one more, which `leave` ends; else when to come back."""
        if self._busy[account_id] < self._limit:
            self._busy[account_id] += 1
            return None
        self._sent_away[account_id] += 1
        return now + min(self._SHORTEST + self._EACH * self._sent_away[account_id], self._LONGEST)

    def leave(self, account_id: str) -> None:
        """One of the account's ended."""
        self._busy[account_id] -= 1
        del self._sent_away[account_id]
        if not self._busy[account_id]:
            del self._busy[account_id]
