"""The LoopingCall that claims due jobs and does them; every worker has one, and any of them may do any job.

Nothing depends on this process: a job it claimed and did not settle is claimed by somebody else when its lease ends.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from opencertd.clock import Clock
from opencertd.errors import Refusal
from opencertd.jobs.store import Job, JobStore
from opencertd.tasks import Tasks


class Outcome(enum.Enum):
    """What a handler may say instead of None or a time."""

    FORGOTTEN = "the job was done with in the deed's own transaction"


Handler: TypeAlias = Callable[[Job], Coroutine[Deferred[Any], Any, datetime | Outcome | None]]
"""Does a job: None finishes it, a time postpones it to then, an exception postpones it with back-off.

It must bear to be run twice, even at once: a lease can end while the worker that holds it is only slow.
"""

_FIRST_RETRY = timedelta(seconds=1)
_LAST_RETRY = timedelta(minutes=5)


def back_off(failures: int) -> timedelta:
    """How long to wait after a failure that followed `failures` others: 1 s, 2 s, 4 s … 5 minutes."""
    return min(_FIRST_RETRY * float(2 ** min(failures, 16)), _LAST_RETRY)


class Scheduler:
    """Claims and does the jobs for whose kinds it has handlers, at most `at_once` at a time.

    `owner` names this worker among all; what a forerunner of that name held is released before (`JobStore.release`).
    `tick` is in seconds; `lease` should be longer than any handler takes.
    """

    _log = Logger()

    def __init__(
        self,
        store: JobStore,
        handlers: Mapping[str, Handler],
        *,
        owner: str,
        clock: Clock,
        reactor: IReactorTime,
        tasks: Tasks,
        tick: float = 0.5,
        lease: timedelta = timedelta(seconds=60),
        at_once: int = 20,
    ) -> None:
        self._store = store
        self._handlers = dict(handlers)
        self._owner = owner
        self._clock = clock
        self._reactor = reactor
        self._tasks = tasks
        self._tick = tick
        self._lease = lease
        self._at_once = at_once
        self._loop = LoopingCall(self.kick)
        self._loop.clock = reactor
        self._running: dict[tuple[str, str], Job] = {}
        self._waiting: dict[tuple[str, str], list[Deferred[None]]] = {}
        self._deeds: set[Deferred[None]] = set()
        self._claiming = False
        self._kicked = False
        self._away = False

    def start(self) -> None:
        """Begin to tick; the first claim is made at once."""
        self._loop.start(self._tick)

    def kick(self) -> None:
        """Claim now instead of at the next tick: something is due. Kicks during a claim become one more claim."""
        if not self._loop.running:
            return
        self._kicked = True
        if not self._claiming:
            self._claiming = True
            self._do(self._claim())

    @property
    def free(self) -> bool:
        """Whether another job could begin now."""
        return self._loop.running and len(self._running) < self._at_once

    def take_on(self, job: Job) -> None:
        """Do a job that was owed leased to this worker, so that nobody need claim it."""
        self._begin(job)

    def ending(self, key: str) -> Deferred[None] | None:
        """See `Hands`. Whoever waits no longer cancels it, which the job does not notice."""
        place = next(((kind, key) for kind in self._handlers if (kind, key) in self._running), None)
        if place is None:
            return None
        waiting = self._waiting.setdefault(place, [])
        ended: Deferred[None] = Deferred(waiting.remove)
        waiting.append(ended)
        return ended

    async def stop(self) -> None:
        """Claim nothing more, and return when what is under way has ended."""
        if self._loop.running:
            self._loop.stop()
        while self._deeds:
            await DeferredList(list(self._deeds))

    def _do(self, deed: Coroutine[Deferred[Any], Any, None]) -> None:
        done = self._tasks.shield(deed)
        self._deeds.add(done)

        def ended(result: Failure | None) -> None:
            self._deeds.discard(done)
            if isinstance(result, Failure):
                self._log.failure("the scheduler failed", result)

        done.addBoth(ended)

    async def _claim(self) -> None:
        try:
            while self._kicked and self._loop.running and len(self._running) < self._at_once:
                self._kicked = False
                await self._claim_once(self._at_once - len(self._running))
        except Exception:
            self._say_away()  # the next tick tries again
        finally:
            self._claiming = False

    async def _claim_once(self, limit: int) -> None:
        jobs = await self._store.claim(tuple(self._handlers), self._owner, self._clock.now(), self._lease, limit)
        self._say_back()
        for job in jobs:
            self._begin(job)

    def _begin(self, job: Job) -> None:
        place = (job.kind, job.key)
        under_way = self._running.get(place)
        if under_way is not None:
            # Our own lease had ended, so this claim renews it. What was asked since stays asked: the older generation.
            self._running[place] = replace(job, generation=under_way.generation)
            return
        self._running[place] = job
        self._do(self._run(place) if self._loop.running else self._give_back(place))

    async def _run(self, place: tuple[str, str]) -> None:
        job = self._running[place]
        failed = False
        later: datetime | Outcome | None
        try:
            later = await self._handlers[job.kind](job)
        except Exception as error:
            if isinstance(error, Refusal):  # said in words, such as that a key is away
                self._log.warn("{kind} of {key} is tried again: {why}", kind=job.kind, key=job.key, why=error.detail)
            else:
                self._log.failure("{kind} of {key} failed and is tried again", kind=job.kind, key=job.key)
            failed = True
            later = self._clock.now() + back_off(job.failures)
        try:
            if later is not Outcome.FORGOTTEN:
                await self._settle(place, later, failed=failed)
        finally:
            was_full = len(self._running) >= self._at_once
            self._running.pop(place, None)
            for ended in self._waiting.pop(place, ()):
                ended.callback(None)
            if was_full:
                self.kick()

    async def _give_back(self, place: tuple[str, str]) -> None:
        try:
            await self._settle(place, self._running[place].run_at, failed=False)
        finally:
            self._running.pop(place, None)

    async def _settle(self, place: tuple[str, str], later: datetime | None, *, failed: bool) -> None:
        """Finish or postpone; while the store is away, again at each tick until the lease has ended or we stop."""
        until = self._clock.now() + self._lease
        while True:
            job = self._running[place]
            try:
                if later is None:
                    await self._store.finish(job, self._owner)
                else:
                    await self._store.postpone(job, self._owner, later, failed=failed)
            except Exception:
                self._say_away()
            else:
                self._say_back()
                return
            if not self._loop.running or self._clock.now() >= until:
                return
            await deferLater(self._reactor, self._tick)

    def _say_away(self) -> None:
        if not self._away:
            self._away = True
            self._log.failure("the store of jobs does not answer; it is tried again every {tick} s", tick=self._tick)

    def _say_back(self) -> None:
        if self._away:
            self._away = False
            self._log.info("the store of jobs answers again")
