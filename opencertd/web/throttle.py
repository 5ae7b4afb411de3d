"""Who guesses waits: after a few wrong passwords in a row, each further try costs more time than the last.

They are counted for a user at an address, for a user, and for an address, in a store that all workers and nodes share.
A right password ends the row of all three: of a fleet that shares a name or an address, one device with an old
password then stops nobody for long. A stranger can keep a user waiting, a minute at a time, by guessing from many
addresses; a password that a worker remembers as right waits only where others were made to wait and went on guessing.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from twisted.internet.defer import Deferred, succeed

from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind

FREE_FAILURES = 5
FREE_OF_MANY = 20
"""Of a user at all addresses, and of an address with all users."""

LONGEST_WAIT = timedelta(seconds=60)
FORGET_AFTER = timedelta(minutes=15)
MOST_KEYS = 30_000


@dataclass(frozen=True)
class Failures:
    """How many in a row, and when the last was."""

    count: int
    last: datetime


class FailureStore(Protocol):
    """Failures by key, a short text."""

    def failures(self, keys: Sequence[str]) -> Deferred[Mapping[str, Failures]]:
        """Those of three keys, where there are any."""

    def add_failure(self, keys: Sequence[str], now: datetime, forget: datetime) -> Deferred[None]:
        """One more for each, in one transaction; those whose last was before `forget` begin anew."""

    def forget_failures(self, keys: Sequence[str]) -> Deferred[None]:
        """None any more."""


class MemoryFailures:
    """Failures in this process; the oldest are forgotten when there are too many."""

    def __init__(self) -> None:
        self.kept: OrderedDict[str, Failures] = OrderedDict()

    def failures(self, keys: Sequence[str]) -> Deferred[Mapping[str, Failures]]:
        return succeed({key: self.kept[key] for key in keys if key in self.kept})

    def add_failure(self, keys: Sequence[str], now: datetime, forget: datetime) -> Deferred[None]:
        for key in keys:
            before = self.kept.pop(key, None)
            self.kept[key] = Failures(1 if before is None or before.last < forget else before.count + 1, now)
            if len(self.kept) > MOST_KEYS:
                self.kept.popitem(last=False)
        return succeed(None)

    def forget_failures(self, keys: Sequence[str]) -> Deferred[None]:
        for key in keys:
            self.kept.pop(key, None)
        return succeed(None)


class Throttle:
    """Names count whether or not there is such a user. `address`: the client's, empty where it has none."""

    def __init__(self, clock: Clock, store: FailureStore | None = None) -> None:
        self._clock = clock
        self._store: FailureStore = store or MemoryFailures()

    async def check(self, name: str, address: str = "", *, elsewhere: bool = True) -> None:
        """Refusal RATE_LIMITED while `name` at `address` has to wait; `elsewhere`: for what others guessed, too."""
        keys, now = _keys(name, address), self._clock.now()
        found = await self._store.failures(keys)
        waits = [
            each.last + _wait(each.count - free) - now
            for key, free in zip(keys, (FREE_FAILURES, FREE_OF_MANY, FREE_OF_MANY), strict=True)
            if (elsewhere or key != keys[1])
            and (each := found.get(key)) is not None
            and now - each.last <= FORGET_AFTER
        ]
        left = max((wait.total_seconds() for wait in waits), default=0)
        if left > 0:
            raise Refusal(
                RefusalKind.RATE_LIMITED,
                "too many wrong passwords for this user or from this address",
                retry_after=math.ceil(left),
            )

    async def failed(self, name: str, address: str = "") -> None:
        """Count a wrong password."""
        now = self._clock.now()
        await self._store.add_failure(_keys(name, address), now, now - FORGET_AFTER)

    async def succeeded(self, name: str, address: str = "") -> None:
        """Forget the wrong ones."""
        keys = _keys(name, address)
        if await self._store.failures(keys):
            await self._store.forget_failures(keys)


def _wait(over: int) -> timedelta:
    return timedelta() if over < 0 else min(LONGEST_WAIT, timedelta(seconds=2 ** min(over, 6)))


def _keys(name: str, address: str) -> tuple[str, str, str]:
    """Short, whatever strangers call themselves."""
    where = _network(address)
    return tuple(  # type: ignore[return-value]
        hashlib.sha256(f"{kind}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()[:40]
        for kind, text in (("pair", f"{where}\0{name}"), ("user", name), ("address", where))
    )


def _network(address: str) -> str:
    """An address; of IPv6 the /64, of which one customer has all."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if parsed.version == 6:
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
