"""What has ended goes bit by bit, and the job comes back for the rest."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
import pytest_twisted
from pydantic import ValidationError
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock as Reactor

from opencertd.acme.pausing import STREAK_ENDS
from opencertd.clean_up import AT_MOST, FORGOTTEN_INTENT, PAUSE, CleanUp
from opencertd.clock import FixedClock
from opencertd.config import Settings
from opencertd.jobs.store import Job
from opencertd.settings.limits import RetentionSettings
from tests.store.values import NOW

ensure = pytest_twisted.ensureDeferred
JOB = Job("clean-up", "store", NOW, 1, 1)
THEN = NOW - timedelta(days=30)


class PlayedStores:
    """There are `orders` batches of orders, and none of anything else."""

    def __init__(self, orders: int) -> None:
        self.asked: list[tuple[str, *tuple[datetime, ...]]] = []
        self.clean_up = self.certificates = self.approvals = self
        self.enrolment_passwords = self.login_failures = self
        self._left = orders

    def __getattr__(self, what: str) -> Callable[..., Deferred[bool]]:
        def batch(*before: datetime, **named: datetime | None) -> Deferred[bool]:
            self.asked.append((what, *before, *(each for each in named.values() if each is not None)))
            if what == "orders":
                self._left -= 1
            return succeed(what == "orders" and self._left > 0)

        return batch


def job(stores: PlayedStores, reactor: Reactor, **settings: int) -> Deferred[datetime | None]:
    made = CleanUp(RetentionSettings(**settings), cast(Any, stores), clock=FixedClock(NOW), reactor=cast(Any, reactor))
    return Deferred.fromCoroutine(made.job(JOB))


@ensure
async def test_it_pauses_between_batches_and_comes_back_for_the_rest() -> None:
    stores, reactor = PlayedStores(AT_MOST + 50), Reactor()
    answer = job(stores, reactor)
    for done in range(1, AT_MOST):
        assert stores.asked.count(("orders", THEN)) == done
        reactor.advance(PAUSE)
    assert await answer == NOW
    assert stores.asked.count(("orders", THEN)) == AT_MOST


@ensure
async def test_it_is_done_when_nothing_is_left() -> None:
    stores = PlayedStores(0)
    days = {"orders_days": 2, "crls_days": 3, "pauses_days": 4, "approvals_days": 4, "enrolment_passwords_days": 5}
    assert await job(stores, Reactor(), **days) is None
    assert stores.asked == [
        ("abandon_intents", NOW - FORGOTTEN_INTENT),
        ("nonces", NOW),
        ("limits", NOW),
        ("failures", NOW - STREAK_ENDS, NOW - timedelta(days=4)),
        ("orders", NOW - timedelta(days=2)),
        ("authorizations", NOW - timedelta(days=2)),
        ("crls", NOW - timedelta(days=3)),
        ("expire", NOW),
        ("forget", NOW - timedelta(days=4)),
        ("forget", NOW - timedelta(days=5)),
        ("forget_old", NOW),
    ]


@pytest.mark.parametrize(
    "key", ["orders_days", "crls_days", "pauses_days", "approvals_days", "enrolment_passwords_days"]
)
def test_nothing_goes_on_the_day_that_it_ends(key: str) -> None:
    with pytest.raises(ValidationError, match=key):
        Settings.model_validate({"dn": "CN=x", "retention": {key: 0}})
