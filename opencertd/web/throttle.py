"""Who guesses waits: after a few wrong passwords for a name, each further try costs more time than the last."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta

from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind

FREE_FAILURES = 5
LONGEST_WAIT = timedelta(seconds=60)
FORGET_AFTER = timedelta(minutes=15)
MOST_NAMES = 10_000
LONGEST_NAME = 256  # no user has a longer one, and a header holds thousands of characters


@dataclass(frozen=True)
class _Failures:
    count: int
    last: datetime

    @property
    def wait(self) -> timedelta:
        over = self.count - FREE_FAILURES
        return timedelta() if over < 0 else min(LONGEST_WAIT, timedelta(seconds=2 ** min(over, 6)))


class Throttle:
    """Failures by name, known or not, in this process; the oldest names are forgotten when there are too many.

    A name can be kept waiting by a stranger, a minute at a time; a password remembered as right is not asked here.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def check(self, name: str) -> None:
        """Refusal RATE_LIMITED while `name` has to wait."""
        name = name[:LONGEST_NAME]
        failures = self._failures.get(name)
        if failures is None:
            return
        now = self._clock.now()
        if now - failures.last > FORGET_AFTER:
            del self._failures[name]
            return
        left = (failures.last + failures.wait - now).total_seconds()
        if left > 0:
            raise Refusal(
                RefusalKind.RATE_LIMITED,
                "too many wrong passwords for this user",
                retry_after=math.ceil(left),
            )

    def failed(self, name: str) -> None:
        """Count a wrong password."""
        name = name[:LONGEST_NAME]
        before = self._failures.pop(name, None)
        self._failures[name] = _Failures(1 if before is None else before.count + 1, self._clock.now())
        if len(self._failures) > MOST_NAMES:
            self._failures.popitem(last=False)

    def succeeded(self, name: str) -> None:
        """Forget the wrong ones."""
        self._failures.pop(name, None)
