"""The job that removes what is past its `[retention]`: in small batches, by whichever worker holds the lease.

Every worker owes the job now and then; there is one job, so that one of them does it at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from opencertd.acme.pausing import STREAK_ENDS
from opencertd.clock import Clock
from opencertd.jobs.store import Job
from opencertd.settings.limits import RetentionSettings
from opencertd.stores import Stores

JOB_KIND = "clean-up"
JOB_KEY = "store"

PAUSE = 0.02
"""Seconds between two batches, in which others write."""

FORGOTTEN_INTENT = timedelta(minutes=10)
"""Intents older than this belong to a node that died and has not come back; nobody signs for that long."""

AT_MOST = 200
"""Batches of a run, so that it ends well before its lease does; the rest is owed again at once."""

Batch = Callable[[], Deferred[bool]]


class CleanUp:
    """The handler of the job."""

    def __init__(self, settings: RetentionSettings, stores: Stores, *, clock: Clock, reactor: IReactorTime) -> None:
        self._settings = settings
        self._stores = stores
        self._clock = clock
        self._reactor = reactor

    async def job(self, job: Job) -> datetime | None:
        """Remove batch after batch; there is but this one `job`. Answers now when there may be more, None when not."""
        now = self._clock.now()
        await self._stores.certificates.abandon_intents(owner=None, before=now - FORGOTTEN_INTENT)
        left = AT_MOST
        for batch in self._batches(now):
            while await batch():
                left -= 1
                if not left:
                    return self._clock.now()
                await deferLater(self._reactor, PAUSE)
        return None

    def _batches(self, now: datetime) -> tuple[Batch, ...]:
        settings, store, approvals = self._settings, self._stores.clean_up, self._stores.approvals
        orders = now - timedelta(days=settings.orders_days)
        crls = now - timedelta(days=settings.crls_days)
        pauses = now - timedelta(days=settings.pauses_days)
        decided = now - timedelta(days=settings.approvals_days)
        expired = now - timedelta(days=settings.enrolment_passwords_days)
        return (
            lambda: store.nonces(now),
            lambda: store.limits(now),
            lambda: store.failures(now - STREAK_ENDS, pauses),
            lambda: store.orders(orders),
            lambda: store.authorizations(orders),
            lambda: store.crls(crls),
            lambda: approvals.expire(now),
            lambda: approvals.forget(decided),
            lambda: self._stores.enrolment_passwords.forget(expired),
            lambda: self._stores.login_failures.forget_old(now),
        )
