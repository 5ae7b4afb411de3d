"""A limit lets through what it says and no more, whoever asks at once, and costs nothing when it refuses."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select
from twisted.internet.defer import DeferredList

from opencertd.acme.limits import Charge, Limit, Rate, Toll
from opencertd.clock import FixedClock
from opencertd.errors import Refusal, RefusalKind
from opencertd.store.acme import SqlAcmeStore
from opencertd.store.clean_up import SqlCleanUp
from opencertd.store.database import Database
from opencertd.store.rate_limits import weigh
from opencertd.store.schema import rate_limits
from tests.store.values import NOW, SECOND, account, order, refused

ensure = pytest_twisted.ensureDeferred
MINUTE = timedelta(minutes=1)
THREE = Rate(3, 3 * MINUTE)


def charge(rate: Rate = THREE, toll: Toll = Toll.PAY, key: str = "ann") -> Charge:
    return Charge(Limit.ORDERS, key, rate, toll, "new orders of this account")


async def passes(database: Database, asked: Charge, when: datetime) -> bool:
    try:
        await database.write(lambda connection: weigh(connection, [asked], when))
    except Refusal as refusal:
        assert refusal.kind is RefusalKind.RATE_LIMITED
        return False
    return True


@ensure
async def test_so_many_at_once_and_then_one_by_one(database: Database) -> None:
    assert [await passes(database, charge(), NOW) for _ in range(5)] == [True, True, True, False, False]
    assert await passes(database, charge(key="bob"), NOW)
    assert not await passes(database, charge(), NOW + MINUTE - SECOND)
    assert await passes(database, charge(), NOW + MINUTE)
    assert not await passes(database, charge(), NOW + MINUTE)
    assert [await passes(database, charge(), NOW + 10 * MINUTE) for _ in range(4)] == [True, True, True, False]


@ensure
async def test_nobody_waits_for_a_time_that_only_a_wrong_clock_has_seen(database: Database) -> None:
    year = timedelta(days=365)
    assert [await passes(database, charge(), NOW + year) for _ in range(4)] == [True, True, True, False]
    assert await passes(database, charge(toll=Toll.LOOK), NOW)
    assert [await passes(database, charge(), NOW) for _ in range(4)] == [True, True, True, False]


@ensure
async def test_nodes_whose_clocks_differ_a_little_let_no_more_through(database: Database) -> None:
    assert [await passes(database, charge(), NOW + 9 * MINUTE) for _ in range(4)] == [True, True, True, False]
    assert not await passes(database, charge(), NOW)


@ensure
async def test_the_refusal_says_what_remains_and_when_to_come_back(database: Database) -> None:
    for _ in range(3):
        await passes(database, charge(), NOW)
    refusal = await refused(database.write(lambda connection: weigh(connection, [charge()], NOW + 20 * SECOND)))
    assert refusal.retry_after == 40
    assert refusal.detail == (
        "too many new orders of this account: of 3 in 3 minutes 0 remain; the next is possible in 40 seconds"
    )
    assert await passes(database, charge(), NOW + 60 * SECOND)


@ensure
async def test_looking_takes_nothing_and_owing_refuses_nothing(database: Database) -> None:
    assert [await passes(database, charge(toll=Toll.LOOK), NOW) for _ in range(5)] == [True] * 5
    assert [await passes(database, charge(toll=Toll.OWE), NOW) for _ in range(5)] == [True] * 5
    assert not await passes(database, charge(toll=Toll.LOOK), NOW)
    assert await passes(database, charge(toll=Toll.LOOK), NOW + MINUTE), "no debts beyond the limit"


@ensure
async def test_a_refusal_undoes_the_deed_and_the_other_charges(database: Database, clock: FixedClock) -> None:
    store = SqlAcmeStore(database, clock)
    await store.create_account(account())
    once = charge(Rate(1, MINUTE), key="once")
    await store.create_order(order("o1"), [charge(), once])
    assert (await refused(store.create_order(order("o2"), [charge(), once]))).kind is RefusalKind.RATE_LIMITED
    assert await store.order("o2") is None
    assert [await passes(database, charge(), NOW) for _ in range(3)] == [True, True, False]


@ensure
async def test_an_account_that_is_there_already_costs_nothing(database: Database, clock: FixedClock) -> None:
    store = SqlAcmeStore(database, clock)
    for _ in range(3):
        await store.create_account(account(), [charge(Rate(1, MINUTE))])


@ensure
async def test_raced_charges_are_all_counted(database: Database) -> None:
    tries = [database.write(lambda connection: weigh(connection, [charge(Rate(10, MINUTE))], NOW)) for _ in range(40)]
    results = await DeferredList(tries, consumeErrors=True)
    assert [won for won, _ in results].count(True) == 10


@ensure
async def test_rows_that_say_nothing_any_more_go(database: Database, clock: FixedClock) -> None:
    clean_up = SqlCleanUp(database)
    await passes(database, charge(), NOW)
    await passes(database, charge(key="bob"), NOW + MINUTE)
    assert not await clean_up.limits(NOW + MINUTE + SECOND)
    left = await database.read(lambda connection: connection.execute(select(rate_limits.c.key)).scalars().all())
    assert left == ["bob"]
    await clean_up.limits(NOW + 3 * MINUTE)
    assert await database.read(lambda c: c.execute(select(func.count()).select_from(rate_limits)).scalar()) == 0


@given(st.integers(1, 5), st.integers(1, 60), st.lists(st.integers(0, 20), max_size=40))
def test_no_time_of_a_period_has_more_than_twice_the_count(count: int, seconds: int, pauses: list[int]) -> None:
    """GCRA's promise: a burst of `count`, and `count` more in the period after it."""
    database = Database.in_memory()
    rate = Rate(count, timedelta(seconds=seconds))
    passed: list[datetime] = []
    now = NOW
    for pause in pauses:
        now += timedelta(seconds=pause)
        database.write(lambda connection, now=now: weigh(connection, [charge(rate)], now)).addCallbacks(
            lambda _, now=now: passed.append(now), lambda failure: failure.trap(Refusal)
        )
    for start in passed:
        assert len([when for when in passed if start <= when < start + rate.period]) <= 2 * count
    assert not pauses or passed, "the first is always let through"
