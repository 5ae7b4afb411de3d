"""Wrong passwords are counted once for all workers."""

from __future__ import annotations

from datetime import timedelta

import pytest_twisted

from opencertd.clock import FixedClock
from opencertd.errors import RefusalKind
from opencertd.store.database import Database
from opencertd.store.login_failures import SqlLoginFailures
from opencertd.web.throttle import FORGET_AFTER, Failures, Throttle
from tests.store.test_processes import race, url
from tests.store.values import NOW, refused

ensure = pytest_twisted.ensureDeferred
KEYS = ("x", "y", "z")
__all__ = ["url"]


@ensure
async def test_they_are_counted_and_forgotten_by_key(database: Database, clock: FixedClock) -> None:
    store = SqlLoginFailures(database, clock)
    assert await store.failures(KEYS) == {}
    await store.add_failure(("x", "y", "other"), NOW, NOW - FORGET_AFTER)
    later = NOW + timedelta(milliseconds=1500)
    await store.add_failure(KEYS, later, later - FORGET_AFTER)
    assert await store.failures(KEYS) == {"x": Failures(2, later), "y": Failures(2, later), "z": Failures(1, later)}
    await store.forget_failures(("x", "z", "none"))
    assert await store.failures(KEYS) == {"y": Failures(2, later)}


@ensure
async def test_a_row_that_has_ended_begins_anew_and_is_cleaned_up(database: Database, clock: FixedClock) -> None:
    store = SqlLoginFailures(database, clock)
    await store.add_failure(KEYS, NOW, NOW - FORGET_AFTER)
    late = NOW + FORGET_AFTER + timedelta(milliseconds=1)
    await store.add_failure(("x",), late, late - FORGET_AFTER)
    assert (await store.failures(KEYS))["x"].count == 1
    assert not await store.forget_old(late)
    assert set(await store.failures(KEYS)) == {"x"}


@ensure
async def test_what_one_worker_counts_another_goes_by(database: Database, clock: FixedClock) -> None:
    one, other = (Throttle(clock, SqlLoginFailures(database, clock)) for _ in range(2))
    for worker in (one, other, one, other, one):
        await worker.check("ann", "192.0.2.1")
        await worker.failed("ann", "192.0.2.1")
    for worker in (one, other):
        refusal = await refused(worker.check("ann", "192.0.2.1"))
        assert (refusal.kind, refusal.retry_after) == (RefusalKind.RATE_LIMITED, 1)
    await other.succeeded("ann", "192.0.2.1")
    await one.check("ann", "192.0.2.1")


def test_processes_that_count_at_once_lose_nothing(url: str) -> None:
    Database.open_inline(url)
    assert len(race(url, "guess", 100)) == 300
    found: list[int] = []
    rows = Database.open_inline(url).read(
        lambda connection: [row[0] for row in connection.exec_driver_sql("SELECT failures FROM login_failures")]
    )
    rows.addCallback(found.extend)
    assert found == [300, 300, 300]
