"""Who fails for weeks without one success is paused, once, by whatever worker; who succeeds or is resumed goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest_twisted
from twisted.internet.defer import DeferredList

from opencertd.acme.limits import Limits, Weighed
from opencertd.acme.pausing import STREAK_ENDS, Failures, PauseTerms
from opencertd.acme.pausing import refusal as told_of
from opencertd.clock import FixedClock
from opencertd.errors import Refusal, RefusalKind
from opencertd.model.names import AltName
from opencertd.model.requester import ANY_NAME, Proof, Requester
from opencertd.store.acme import SqlAcmeStore
from opencertd.store.acme_admin import SqlAcmeAdmin
from opencertd.store.audit import SqlAuditStore
from opencertd.store.clean_up import SqlCleanUp
from opencertd.store.database import Database
from opencertd.store.rate_limits import weigh
from tests.store.values import NOW, SECOND, account, dns, order, refused

ensure = pytest_twisted.ensureDeferred
DAY = timedelta(days=1)
NAME = dns("a.example")
OTHER = dns("b.example")
LIMITS = Limits(pausing=PauseTerms(after=14 * DAY, failures=10, help_url="https://ca.example/paused"))


def admin(database: Database) -> SqlAcmeAdmin:
    return SqlAcmeAdmin(database, FixedClock(NOW), Requester(Proof.OPERATOR, "root", "root", ANY_NAME))


async def store_with(database: Database, clock: FixedClock, *ids: str) -> SqlAcmeStore:
    store = SqlAcmeStore(database, clock)
    for each in ids:
        await store.create_account(account(each, f"thumb-{each}"))
    return store


async def told(database: Database, weighed: tuple[Weighed, ...], when: datetime) -> Refusal | None:
    try:
        await database.write(lambda connection: weigh(connection, weighed, when))
    except Refusal as refusal:
        return refusal
    return None


async def fail(database: Database, *days: float, who: str = "ann", name: AltName = NAME) -> None:
    for day in days:
        assert await told(database, LIMITS.failure(who, name), NOW + day * DAY) is None


async def is_paused(database: Database, day: float, *names: AltName, who: str = "ann") -> bool:
    return await told(database, LIMITS.new_order(who, names or (NAME,)), NOW + day * DAY) is not None


async def audited(database: Database, clock: FixedClock) -> list[tuple[str, dict[str, Any]]]:
    entries = await SqlAuditStore(database, clock).page(None, 100)
    found = [(entry.who, json.loads(entry.what)) for entry in entries]
    return [each for each in found if each[1].get("change") in {"pause", "resume"}]


@ensure
async def test_many_failures_over_weeks_pause_and_neither_alone_does(database: Database, clock: FixedClock) -> None:
    await store_with(database, clock, "ann", "bob", "eve")
    await fail(database, *(n / 100 for n in range(40)))  # many, on one day
    assert not await is_paused(database, 1)
    await fail(database, 0, 5, 10, 15, 20, who="bob")  # for weeks, and few
    assert not await is_paused(database, 20, who="bob")
    await fail(database, *range(14), who="eve")
    assert not await is_paused(database, 13.9, who="eve")
    await fail(database, 14, who="eve")
    assert await is_paused(database, 14, who="eve")
    assert not await is_paused(database, 14, OTHER, who="eve"), "another name"
    assert not await is_paused(database, 14), "another account"


@ensure
async def test_one_success_ends_it_and_before_it_begins(database: Database, clock: FixedClock) -> None:
    await store_with(database, clock, "ann")
    await fail(database, *range(13))
    await told(database, LIMITS.success("ann", NAME), NOW + 13 * DAY)
    await fail(database, *range(13, 26))
    assert not await is_paused(database, 26)
    await fail(database, 27)
    assert await is_paused(database, 27)
    await told(database, LIMITS.success("ann", NAME), NOW + 28 * DAY)  # of an order that was begun before
    assert not await is_paused(database, 28)


@ensure
async def test_somebody_who_tries_now_and_then_is_no_timer(database: Database, clock: FixedClock) -> None:
    await store_with(database, clock, "ann")
    long = STREAK_ENDS / DAY + 0.1
    await fail(database, *(n * long for n in range(30)))
    assert not await is_paused(database, 30 * long)
    await fail(database, *(30 * long + n / 100 for n in range(30)))  # and then on one afternoon
    assert not await is_paused(database, 31 * long)


@ensure
async def test_the_refusal_says_which_names_and_what_to_do(database: Database, clock: FixedClock) -> None:
    store = await store_with(database, clock, "ann")
    wild = dns("*.b.example")
    for name in (NAME, wild, dns("c.example")):
        await fail(database, *range(15), name=name)
    charges = LIMITS.new_order("ann", (NAME, wild, dns("good.example")))
    refusal = await refused(store.create_order(order("o1"), charges))
    assert refusal.kind is RefusalKind.RATE_LIMITED
    assert "a.example, b.example for weeks" in refusal.detail
    assert "opencert acme paused resume --all-names ann" in refusal.detail
    assert [each.name for each in refusal.names] == ["a.example", "b.example"]
    assert refusal.names[0].detail == (
        "paused after 15 validations that failed since 2026-06-01, the last on 2026-06-15"
    )
    assert refusal.link == ("https://ca.example/paused", "help")
    assert await store.order("o1") is None
    alone = await refused(store.create_order(order("o1"), LIMITS.new_order("ann", (NAME,))))
    assert "(opencert acme paused resume ann a.example)" in alone.detail
    dashed = replace(paused_for_ann(), account_id="-ann")
    assert "resume -- -ann a.example)" in told_of((dashed,), None).detail


def paused_for_ann() -> Failures:
    return Failures("ann", NAME, 20, NOW, NOW, NOW)


@ensure
async def test_raced_failures_are_all_counted_and_pause_once(database: Database, clock: FixedClock) -> None:
    await store_with(database, clock, "ann")
    await fail(database, *range(6), 11)
    late = NOW + 15 * DAY
    tries = [database.write(lambda c: weigh(c, LIMITS.failure("ann", NAME), late)) for _ in range(20)]
    assert all(done for done, _ in await DeferredList(tries))
    (paused,) = await admin(database).paused(None, None, 10)
    assert paused == Failures("ann", NAME, 27, NOW, late, late)
    (entry,) = await audited(database, clock)
    what = {"change": "pause", "account": "ann", "name": "dns:a.example", "failed": 10, "since": "2026-06-01T12:00:00Z"}
    assert entry == ("daemon", what)


@ensure
async def test_resumed_by_name_by_account_and_all_each_with_its_entry(database: Database, clock: FixedClock) -> None:
    await store_with(database, clock, "ann", "bob")
    for who in ("ann", "bob"):
        for name in (NAME, OTHER, dns("c.example")):
            await fail(database, *range(15), who=who, name=name)
    await fail(database, 14, who="bob", name=dns("new.example"))
    desk = admin(database)
    assert await desk.resume("ann", [NAME, dns("unknown.example")]) == (("ann", NAME),)
    assert not await is_paused(database, 15)
    assert await is_paused(database, 15, OTHER)
    assert await desk.resume("ann", None) == (("ann", OTHER), ("ann", dns("c.example")))
    assert await desk.resume("ann", None) == ()
    assert await desk.resume("nobody", None) == ()
    assert await is_paused(database, 15, who="bob")
    assert len(await desk.resume(None, None)) == 3
    assert await desk.paused(None, None, 10) == ()
    resumed = [(who, what) for who, what in await audited(database, clock) if what["change"] == "resume"]
    assert resumed == [
        ("root", {"change": "resume", "account": "ann", "names": ["dns:a.example"]}),
        ("root", {"change": "resume", "account": "ann", "names": ["dns:b.example", "dns:c.example"]}),
        ("root", {"change": "resume", "account": "bob", "names": ["dns:a.example", "dns:b.example", "dns:c.example"]}),
    ]
    await fail(database, 16)
    assert not await is_paused(database, 16), "it begins anew"


@ensure
async def test_those_paused_are_listed_page_by_page(database: Database, clock: FixedClock) -> None:
    await store_with(database, clock, "ann", "bob")
    names = [dns(f"n{number}.example") for number in range(5)]
    for who in ("ann", "bob"):
        for name in names:
            await fail(database, *range(15), who=who, name=name)
    found: list[Failures] = []
    while page := await admin(database).paused(None, found[-1] if found else None, 3):
        found += page
    assert [(each.account_id, each.name) for each in found] == [(who, name) for who in ("ann", "bob") for name in names]
    assert [each.account_id for each in await admin(database).paused("bob", None, 10)] == ["bob"] * 5


@ensure
async def test_a_verdict_that_was_not_the_one_counts_for_nothing(database: Database, clock: FixedClock) -> None:
    store = await store_with(database, clock, "ann")
    await fail(database, *range(15), name=OTHER)
    await store.create_order(order("o1"))
    assert not await store.settle_challenge("o1-a0-http-01", None, NOW, LIMITS.success("ann", OTHER))
    assert await is_paused(database, 15, OTHER), "the challenge was not being validated"


@ensure
async def test_rows_of_what_is_over_go(database: Database, clock: FixedClock) -> None:
    await store_with(database, clock, "ann")
    clean_up = SqlCleanUp(database)
    await fail(database, *range(15))
    await fail(database, 14, name=OTHER)
    last = NOW + 14 * DAY

    async def left() -> tuple[bool, int]:
        return await is_paused(database, 14), len(await database.read(lambda c: c.exec_driver_sql(COUNT).all()))

    assert not await clean_up.failures(last, last)
    assert await left() == (True, 2)
    await clean_up.failures(last + SECOND, last)
    assert await left() == (True, 1)
    await clean_up.failures(last + SECOND, last + SECOND)
    assert await left() == (False, 0)


@ensure
async def test_without_the_setting_nothing_is_kept(database: Database, clock: FixedClock) -> None:
    assert Limits().failure("ann", NAME) == Limits().success("ann", NAME) == Limits().new_order("ann", (NAME,)) == ()


COUNT = "SELECT account_id FROM acme_failures"
