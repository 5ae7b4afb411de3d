"""Every worker learns of every revocation, hold and release within a second: it asks the store twice a second."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from opencertd.clock import Clock
from opencertd.ocsp.store import RevokedSince, StatusStore


class RevocationFeed:
    """Tells `on_revoked` of each change of a revocation once (issuer id, serial).

    Each question reaches back to `overlap` before the last question that was answered: a revocation is stamped
    before it is committed, the clocks of several nodes differ, and a clock may be set back. After an outage of the
    store nothing is missed.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        store: StatusStore,
        on_revoked: Callable[[str, int], None],
        clock: Clock,
        reactor: IReactorTime,
        every: float = 0.5,
        overlap: timedelta = timedelta(seconds=10),
        stale_after: timedelta = timedelta(seconds=5),
    ) -> None:
        self._store = store
        self._on_revoked = on_revoked
        self._clock = clock
        self._every = every
        self._overlap = overlap
        self._stale_after = stale_after
        self._asked_at = clock.now()
        self._followed_until: datetime | None = None
        self._seen: frozenset[RevokedSince] = frozenset()
        self._failing = False
        self._loop = LoopingCall(lambda: Deferred.fromCoroutine(self.poll()))
        self._loop.clock = reactor
        self._ended: Deferred[LoopingCall] | None = None

    def start(self) -> None:
        """Ask now and every `every` seconds from now on."""
        self._ended = self._loop.start(self._every, now=True)

    async def stop(self) -> None:
        """Ask no more; a question under way is waited for."""
        if self._loop.running:
            self._loop.stop()
        if self._ended is not None:
            await self._ended

    def followed_until(self, now: datetime) -> datetime | None:
        """When the last question was asked that the store has answered; None when that is too long ago.

        What was known before and not told of since was so then.
        """
        until = self._followed_until
        return until if until is not None and timedelta(0) <= now - until < self._stale_after else None

    async def poll(self) -> None:
        """Ask once. A store that is away is logged once, and asked again next time."""
        now = self._clock.now()
        try:
            revoked = await self._store.revoked_since(min(self._asked_at, now) - self._overlap)
        except Exception:  # whatever the store's trouble, the next question follows
            if not self._failing:
                self._log.failure("the store does not answer what was revoked")
            self._failing = True
            return
        self._failing = False
        self._asked_at = now
        for entry in revoked:
            if entry not in self._seen:
                self._on_revoked(entry.issuer_id, entry.serial)
        self._seen = frozenset(revoked)
        self._followed_until = now
