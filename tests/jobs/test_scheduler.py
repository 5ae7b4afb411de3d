"""The scheduler: what is due is done once, failures are tried again later, and stopping waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock as ReactorClock
from twisted.logger import LogEvent, globalLogPublisher

from opencertd.clock import FixedClock
from opencertd.errors import Refusal, RefusalKind
from opencertd.jobs.scheduler import Outcome, Scheduler, back_off
from opencertd.jobs.store import Job
from opencertd.store.database import Database
from opencertd.store.jobs import SqlJobStore, forget, owe_leased
from opencertd.tasks import Tasks

NOW = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
LEASE = timedelta(seconds=60)
AWAY = Refusal(RefusalKind.UNAVAILABLE, "the store is away")


@dataclass
class FlakyStore:
    """The real store, which is away while `away`; knows how often it was asked to claim."""

    store: SqlJobStore
    away: bool = False
    claims: int = 0
    slow: Deferred[None] | None = None

    def claim(self, *args: Any) -> Deferred[tuple[Job, ...]]:
        self.claims += 1
        if self.away:
            return fail(AWAY)
        claimed = self.store.claim(*args)
        if self.slow is None:
            return claimed
        return self.slow.addCallback(lambda _: claimed)

    def __getattr__(self, name: str) -> Callable[..., Deferred[Any]]:
        def ask(*args: Any, **named: Any) -> Deferred[Any]:
            return fail(AWAY) if self.away else getattr(self.store, name)(*args, **named)

        return ask


@dataclass
class Bench:
    """A scheduler for jobs of kind `k`; `do` says what becomes of them, `done` which were begun."""

    at_once: int = 20
    owner: str = "me"
    clock: FixedClock = field(default_factory=lambda: FixedClock(NOW))
    reactor: ReactorClock = field(default_factory=ReactorClock)
    do: Callable[[Job], Deferred[datetime | Outcome | None]] = lambda _: succeed(None)
    done: list[Job] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.database = Database.in_memory()
        self.store = FlakyStore(SqlJobStore(self.database, self.clock))
        self.tasks = Tasks()
        self.scheduler = Scheduler(
            self.store,
            {"k": self._handle},
            owner=self.owner,
            clock=self.clock,
            reactor=self.reactor,
            tasks=self.tasks,
            tick=0.5,
            lease=LEASE,
            at_once=self.at_once,
        )

    async def _handle(self, job: Job) -> datetime | Outcome | None:
        self.done.append(job)
        return await self.do(job)

    @property
    def keys(self) -> list[str]:
        return [job.key for job in self.done]

    def owe(self, *keys: str, after: float = 0) -> None:
        for key in keys:
            self.store.store.enqueue("k", key, NOW + timedelta(seconds=after))

    def pass_time(self, seconds: float) -> None:
        """Both clocks, in steps of a tenth of a second."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(timedelta(seconds=0.1))
            self.reactor.advance(0.1)

    def owed(self) -> list[Job]:
        """What is still in the table and nobody holds, whenever it is due."""
        later = self.clock.now() + timedelta(days=365)
        claimed: list[tuple[Job, ...]] = []
        self.store.store.claim(("k",), "test", later, timedelta(0), 999).addCallback(claimed.append)
        return list(claimed[0])


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def logged() -> Any:
    events: list[str] = []

    def observe(event: LogEvent) -> None:
        if "scheduler" in str(event.get("log_namespace")):
            events.append(f"{event['log_level'].name}: {event['log_format']}")

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


class TestDoing:
    def test_what_is_due_at_the_start_is_done_at_once_and_forgotten(self, bench: Bench) -> None:
        bench.owe("a", "b")
        bench.scheduler.start()
        assert bench.keys == ["a", "b"]
        assert bench.owed() == []

    def test_what_becomes_due_is_done_within_a_tick(self, bench: Bench) -> None:
        bench.owe("a", after=3)
        bench.scheduler.start()
        bench.pass_time(2.9)
        assert bench.keys == []
        bench.pass_time(0.6)
        assert bench.keys == ["a"]

    def test_a_kick_does_it_now(self, bench: Bench) -> None:
        bench.scheduler.start()
        bench.owe("a")
        assert bench.keys == []
        bench.scheduler.kick()
        assert bench.keys == ["a"]

    def test_only_kinds_with_handlers_are_claimed(self, bench: Bench) -> None:
        bench.store.store.enqueue("other", "x", NOW)
        bench.scheduler.start()
        claimed: list[tuple[Job, ...]] = []
        bench.store.store.claim(("other",), "test", NOW, LEASE, 9).addCallback(claimed.append)
        assert [job.key for job in claimed[0]] == ["x"]

    def test_kicks_during_a_claim_become_one_more(self, bench: Bench) -> None:
        bench.store.slow = Deferred()
        bench.scheduler.start()
        for _ in range(5):
            bench.scheduler.kick()
        assert bench.store.claims == 1
        bench.owe("late")
        slow, bench.store.slow = bench.store.slow, None
        slow.callback(None)
        assert bench.store.claims == 2
        assert bench.keys == ["late"]

    def test_a_time_postpones_to_it(self, bench: Bench) -> None:
        bench.do = lambda _: succeed(bench.clock.now() + timedelta(seconds=10))
        bench.owe("a")
        bench.scheduler.start()
        bench.pass_time(9.4)
        assert bench.keys == ["a"]
        bench.pass_time(1.1)
        assert bench.keys == ["a", "a"]

    def test_what_is_asked_again_meanwhile_is_done_again(self, bench: Bench) -> None:
        first: Deferred[datetime | None] = Deferred()
        bench.do = lambda _: first if len(bench.done) == 1 else succeed(None)
        bench.owe("a")
        bench.scheduler.start()
        bench.owe("a")
        first.callback(None)
        bench.pass_time(0.6)
        assert bench.keys == ["a", "a"]
        assert bench.owed() == []


class TestAtOnce:
    def test_is_the_most_under_way_and_a_free_place_is_taken(self) -> None:
        bench = Bench(at_once=3)
        running: list[Deferred[datetime | None]] = []

        def wait(_: Job) -> Deferred[datetime | None]:
            running.append(Deferred())
            return running[-1]

        bench.do = wait
        bench.owe(*"abcde")
        bench.scheduler.start()
        bench.pass_time(2)
        assert bench.keys == ["a", "b", "c"]
        running[1].callback(None)  # without waiting for a tick
        assert bench.keys == ["a", "b", "c", "d"]

    def test_a_backlog_is_worked_off_without_waiting_for_ticks(self) -> None:
        bench = Bench(at_once=2)
        later: list[Deferred[datetime | None]] = []

        def soon(_: Job) -> Deferred[datetime | None]:
            later.append(Deferred())
            return later[-1]

        bench.do = soon
        bench.owe(*"abcdefg")
        bench.scheduler.start()
        while later:
            later.pop(0).callback(None)
        assert bench.keys == list("abcdefg")


class TestFailing:
    def test_is_logged_and_tried_again_later_each_time(self, bench: Bench, logged: list[str]) -> None:
        began: list[float] = []

        def wrong(_: Job) -> Deferred[datetime | None]:
            began.append(bench.reactor.seconds())
            return fail(ValueError("no"))

        bench.do = wrong
        bench.owe("a")
        bench.scheduler.start()
        bench.pass_time(40)
        waits = [later - earlier for earlier, later in pairwise(began)]
        assert [round(wait) for wait in waits] == [1, 2, 4, 8, 16]
        assert [line.split(":")[0] for line in logged] == ["critical"] * 6

    def test_success_begins_the_count_anew(self, bench: Bench) -> None:
        bench.do = lambda _: fail(ValueError("no"))
        bench.owe("a")
        bench.scheduler.start()
        bench.pass_time(10)
        bench.do = lambda _: succeed(bench.clock.now())
        bench.pass_time(10)
        bench.do = lambda _: fail(ValueError("no"))
        bench.pass_time(0.5)
        (job,) = bench.owed()
        assert job.failures == 1

    @given(st.integers(0, 10_000))
    def test_back_off_doubles_from_a_second_to_five_minutes(self, failures: int) -> None:
        assert back_off(failures).total_seconds() == min(2**failures, 300)


class TestLease:
    def test_a_job_under_way_is_not_begun_again_when_its_lease_ends(self, bench: Bench) -> None:
        running: Deferred[datetime | None] = Deferred()
        bench.do = lambda _: running
        bench.owe("a")
        bench.scheduler.start()
        bench.pass_time(200)
        assert bench.keys == ["a"]
        running.callback(None)
        assert bench.owed() == []

    def test_what_was_asked_before_the_lease_was_renewed_is_not_forgotten(self, bench: Bench) -> None:
        first: Deferred[datetime | None] = Deferred()
        bench.do = lambda _: first if len(bench.done) == 1 else succeed(None)
        bench.owe("a")
        bench.scheduler.start()
        bench.owe("a")
        bench.pass_time(70)
        first.callback(None)
        bench.pass_time(1)
        assert bench.keys == ["a", "a"]


class TestStoreAway:
    def test_is_said_once_and_asked_again_until_it_is_back(self, bench: Bench, logged: list[str]) -> None:
        bench.store.away = True
        bench.owe("a")
        bench.scheduler.start()
        bench.pass_time(5)
        assert len(logged) == 1
        bench.store.away = False
        bench.pass_time(0.5)
        assert bench.keys == ["a"]
        assert [line.split(":")[0] for line in logged] == ["critical", "info"]

    def test_a_job_done_meanwhile_is_finished_when_it_is_back(self, bench: Bench, logged: list[str]) -> None:
        running: Deferred[datetime | None] = Deferred()
        bench.do = lambda _: running
        bench.owe("a")
        bench.scheduler.start()
        bench.store.away = True
        running.callback(None)
        bench.pass_time(5)
        bench.store.away = False
        bench.pass_time(1)
        assert bench.keys == ["a"]
        assert bench.owed() == []
        assert len(logged) == 2


class TestStopping:
    def test_waits_for_what_is_under_way_and_claims_no_more(self, bench: Bench) -> None:
        running: Deferred[datetime | None] = Deferred()
        bench.do = lambda _: running
        bench.owe("a")
        bench.scheduler.start()
        stopping = Deferred.fromCoroutine(bench.scheduler.stop())
        bench.owe("b")
        bench.scheduler.kick()
        bench.pass_time(2)
        assert not stopping.called
        running.callback(None)
        assert stopping.called
        assert bench.keys == ["a"]
        assert [job.key for job in bench.owed()] == ["b"]
        assert bench.reactor.getDelayedCalls() == []

    def test_gives_back_what_a_claim_on_its_way_brings(self, bench: Bench) -> None:
        bench.owe("a")
        bench.store.slow = slow = Deferred()
        bench.scheduler.start()
        stopping = Deferred.fromCoroutine(bench.scheduler.stop())
        slow.callback(None)
        assert stopping.called
        assert bench.keys == []
        assert [job.key for job in bench.owed()] == ["a"]

    def test_does_not_wait_for_a_store_that_is_away(self, bench: Bench) -> None:
        bench.owe("a")
        running: Deferred[datetime | None] = Deferred()
        bench.do = lambda _: running
        bench.scheduler.start()
        bench.store.away = True
        running.callback(None)
        stopping = Deferred.fromCoroutine(bench.scheduler.stop())
        bench.pass_time(1)
        assert stopping.called

    @pytest_twisted.ensureDeferred
    async def test_before_the_start_is_nothing(self, bench: Bench) -> None:
        await bench.scheduler.stop()
        bench.scheduler.kick()
        assert bench.store.claims == 0


def test_two_workers_do_each_job_once() -> None:
    one, two = Bench(at_once=2), Bench(at_once=2, owner="you")
    two.store.store = one.store.store
    hold: list[Deferred[datetime | None]] = []

    def wait(_: Job) -> Deferred[datetime | None]:
        hold.append(Deferred())
        return hold[-1]

    one.do = two.do = wait
    one.owe(*"abcd")
    one.scheduler.start()
    two.scheduler.start()
    assert sorted(one.keys + two.keys) == list("abcd")


def _owe_to(bench: Bench, key: str) -> Job:
    """A job owed and leased to the bench's worker, as a room owes it within a deed of its own."""
    made: list[Job] = []
    lease = {"owner": bench.owner, "now": bench.clock.now(), "lease": LEASE}
    bench.database.write(lambda connection: owe_leased(connection, "k", key, **lease)).addCallback(made.append)
    return made[0]


def test_what_is_taken_on_is_done_without_a_claim(bench: Bench) -> None:
    bench.scheduler.start()
    claims = bench.store.claims
    bench.scheduler.take_on(_owe_to(bench, "a"))
    assert (bench.keys, bench.store.claims) == (["a"], claims)
    assert bench.owed() == []


def test_what_is_taken_on_and_fails_is_tried_again(bench: Bench) -> None:
    bench.scheduler.start()
    bench.do = lambda _: fail(AWAY)
    bench.scheduler.take_on(_owe_to(bench, "a"))
    bench.do = lambda _: succeed(None)
    bench.pass_time(2)
    assert bench.keys == ["a", "a"]
    assert bench.owed() == []


def test_what_is_taken_on_after_the_stop_is_given_back(bench: Bench) -> None:
    bench.scheduler.take_on(_owe_to(bench, "a"))
    assert bench.keys == []
    assert [job.key for job in bench.owed()] == ["a"]


def test_what_the_deed_itself_forgot_is_left_alone(bench: Bench) -> None:
    """The handler owes the same job again: only one who settles nothing leaves that as it is."""
    bench.scheduler.start()

    def again(_: Job) -> Deferred[Outcome]:
        bench.database.write(lambda connection: forget(connection, "k", "a"))
        bench.owe("a", after=60)
        return succeed(Outcome.FORGOTTEN)

    bench.do = again
    bench.scheduler.take_on(_owe_to(bench, "a"))
    (left,) = bench.owed()
    assert (left.key, left.generation, left.run_at) == ("a", 1, NOW + timedelta(seconds=60))


def test_hands_are_free_while_more_could_begin() -> None:
    bench = Bench(at_once=1)
    assert not bench.scheduler.free  # nothing has started
    bench.scheduler.start()
    assert bench.scheduler.free
    slow: Deferred[None] = Deferred()
    bench.do = lambda _: slow
    bench.scheduler.take_on(_owe_to(bench, "a"))
    assert not bench.scheduler.free
    slow.callback(None)
    assert bench.scheduler.free


def test_the_end_of_what_is_under_way_can_be_waited_for() -> None:
    bench = Bench(at_once=5)
    bench.scheduler.start()
    slow: Deferred[None] = Deferred()
    bench.do = lambda _: slow
    assert bench.scheduler.ending("a") is None
    bench.scheduler.take_on(_owe_to(bench, "a"))
    waiting, gone = bench.scheduler.ending("a"), bench.scheduler.ending("a")
    assert waiting is not None
    assert gone is not None
    assert bench.scheduler.ending("b") is None
    seen: list[list[Job]] = []
    waiting.addCallback(lambda _: seen.append(bench.owed()))
    gone.addErrback(lambda _: None)
    gone.cancel()
    assert seen == []
    slow.callback(None)
    assert seen == [[]]  # by then the job is settled
    assert bench.scheduler.ending("a") is None


def test_a_failure_is_an_end_too(bench: Bench) -> None:
    bench.scheduler.start()
    slow: Deferred[None] = Deferred()
    bench.do = lambda _: slow
    bench.scheduler.take_on(_owe_to(bench, "a"))
    waiting = bench.scheduler.ending("a")
    assert waiting is not None
    slow.errback(AWAY)
    assert waiting.called
