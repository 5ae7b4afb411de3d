"""The contract of `JobStore`, over every database."""

from __future__ import annotations

from datetime import timedelta

import pytest_twisted
from twisted.internet.defer import DeferredList

from opencertd.clock import FixedClock
from opencertd.jobs.store import Job
from opencertd.store.database import Database
from opencertd.store.jobs import SqlJobStore
from tests.store.values import NOW, SECOND

ensure = pytest_twisted.ensureDeferred

LEASE = timedelta(minutes=1)
SOON = timedelta(milliseconds=250)


@pytest_twisted.async_fixture
async def store(database: Database, clock: FixedClock) -> SqlJobStore:
    return SqlJobStore(database, clock)


async def claim(store: SqlJobStore, owner: str = "me", *, at: timedelta = timedelta(), limit: int = 10) -> list[Job]:
    return list(await store.claim(("k",), owner, NOW + at, LEASE, limit))


async def one(store: SqlJobStore, owner: str = "me", *, at: timedelta = timedelta()) -> Job:
    (job,) = await claim(store, owner, at=at)
    return job


class TestClaim:
    @ensure
    async def test_takes_what_is_due_oldest_first_up_to_the_limit(self, store: SqlJobStore) -> None:
        for key, offset in (("b", -1), ("a", -2), ("c", 0), ("later", 1)):
            await store.enqueue("k", key, NOW + offset * SECOND)
        await store.enqueue("another kind", "d", NOW)
        assert [job.key for job in await claim(store, limit=2)] == ["a", "b"]
        assert [job.key for job in await claim(store)] == ["c"]
        assert await claim(store) == []
        assert [job.key for job in await claim(store, at=SECOND)] == ["later"]

    @ensure
    async def test_keeps_time_to_the_millisecond(self, store: SqlJobStore) -> None:
        await store.enqueue("k", "a", NOW + SOON)
        assert await claim(store, at=SOON - timedelta(milliseconds=1)) == []
        assert (await one(store, at=SOON)).run_at == NOW + SOON

    @ensure
    async def test_several_kinds_or_none(self, store: SqlJobStore) -> None:
        await store.enqueue("k", "a", NOW)
        await store.enqueue("l", "a", NOW)
        assert await store.claim((), "me", NOW, LEASE, 10) == ()
        assert len(await store.claim(("k", "l"), "me", NOW, LEASE, 10)) == 2

    @ensure
    async def test_a_lease_keeps_others_out_until_it_ends(self, store: SqlJobStore) -> None:
        await store.enqueue("k", "a", NOW)
        assert (await one(store)).attempts == 1
        assert await claim(store, "you", at=LEASE - SOON) == []
        assert (await one(store, "you", at=LEASE)).attempts == 2

    @ensure
    async def test_raced_gives_each_job_to_one(self, store: SqlJobStore) -> None:
        for number in range(30):
            await store.enqueue("k", str(number), NOW)
        raced = [store.claim(("k",), f"owner-{n}", NOW, LEASE, 4) for n in range(20)]
        claimed = [job.key for _, jobs in await DeferredList(raced, fireOnOneErrback=True) for job in jobs]
        claimed += [job.key for job in await claim(store, limit=99)]  # racers may pass over what others look at
        assert sorted(claimed, key=int) == [str(number) for number in range(30)]


class TestEnqueue:
    @ensure
    async def test_again_keeps_the_earlier_time(self, store: SqlJobStore) -> None:
        await store.enqueue("k", "a", NOW + 5 * SECOND)
        await store.enqueue("k", "a", NOW + SECOND)
        await store.enqueue("k", "a", NOW + 9 * SECOND)
        job = await one(store, at=SECOND)
        assert (job.run_at, job.generation, job.attempts, job.failures) == (NOW + SECOND, 3, 1, 0)

    @ensure
    async def test_again_does_not_take_the_lease_away(self, store: SqlJobStore) -> None:
        await store.enqueue("k", "a", NOW)
        await one(store)
        await store.enqueue("k", "a", NOW)
        assert await claim(store, "you") == []


class TestFinish:
    @ensure
    async def test_forgets_the_job(self, store: SqlJobStore) -> None:
        await store.enqueue("k", "a", NOW)
        await store.finish(await one(store), "me")
        assert await claim(store, at=2 * LEASE) == []

    @ensure
    async def test_does_not_forget_what_was_asked_meanwhile(self, store: SqlJobStore) -> None:
        await store.enqueue("k", "a", NOW)
        job = await one(store)
        await store.enqueue("k", "a", NOW + SECOND)
        await store.finish(job, "me")
        assert (await one(store, "you", at=SECOND)).generation == 2

    @ensure
    async def test_of_a_lost_lease_does_nothing(self, store: SqlJobStore) -> None:
        await store.enqueue("k", "a", NOW)
        lost = await one(store)
        held = await one(store, "you", at=LEASE)
        await store.finish(lost, "me")
        assert await claim(store, at=LEASE) == []  # still yours
        await store.finish(held, "you")
        assert await claim(store, at=3 * LEASE) == []

    @ensure
    async def test_of_ones_own_earlier_claim_does_nothing(self, store: SqlJobStore) -> None:
        await store.enqueue("k", "a", NOW)
        earlier = await one(store)
        await one(store, at=LEASE)
        await store.finish(earlier, "me")
        await store.postpone(earlier, "me", NOW)
        assert await claim(store, at=LEASE) == []
        assert (await one(store, at=2 * LEASE)).attempts == 3


class TestPostpone:
    @ensure
    async def test_owes_it_again_later(self, store: SqlJobStore) -> None:
        await store.enqueue("k", "a", NOW)
        await store.postpone(await one(store), "me", NOW + SOON)
        assert await claim(store, "you") == []
        assert (await one(store, "you", at=SOON)).attempts == 2

    @ensure
    async def test_keeps_what_was_asked_meanwhile_if_earlier(self, store: SqlJobStore) -> None:
        await store.enqueue("k", "a", NOW)
        job = await one(store)
        await store.enqueue("k", "a", NOW)
        await store.postpone(job, "me", NOW + LEASE)
        assert (await one(store)).run_at == NOW

    @ensure
    async def test_of_a_lost_lease_does_nothing(self, store: SqlJobStore) -> None:
        await store.enqueue("k", "a", NOW)
        lost = await one(store)
        await one(store, "you", at=LEASE)
        await store.postpone(lost, "me", NOW)
        assert await claim(store, at=LEASE) == []

    @ensure
    async def test_counts_failures_since_it_went_well(self, store: SqlJobStore) -> None:
        await store.enqueue("k", "a", NOW)
        seen = []
        for failed in (True, True, False, True):
            job = await one(store)
            seen.append(job.failures)
            await store.postpone(job, "me", NOW, failed=failed)
        assert seen == [0, 1, 2, 0]
        assert (await one(store)).attempts == 5


@ensure
async def test_release_gives_up_all_leases_of_one_owner(store: SqlJobStore) -> None:
    for key in ("a", "b"):
        await store.enqueue("k", key, NOW)
    await claim(store, "me", limit=1)
    await claim(store, "you", limit=1)
    await store.release("me")
    assert [job.key for job in await claim(store, "new")] == ["a"]
