"""One writer with group commit: what is asked while a commit is on its way to the disk goes into the next one.

A commit costs the disk's patience, not ours, and costs the same for one change as for a hundred. Each function runs
inside a savepoint of its own, so that one that fails (a Refusal is an ordinary answer) takes nobody with it; nothing
is answered before the commit that holds it. Processes on one file queue at a lock around the whole group, because
writers that meet at SQLite's own lock poll it and starve each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from opencertd.store.sqlite import FileLock, in_transaction, is_away, unavailable
from opencertd.store.threads import Crew, Reactor
from opencertd.store.waiting import Asked, Waiting

T = TypeVar("T")

GROUP = 128
"""At most so many functions per commit: enough that the disk is no longer what costs, few enough to answer soon."""


class GroupCommit:
    """The `Runner` that writes to a SQLite file. `engine` needs one connection."""

    _log = Logger()

    def __init__(self, reactor: Reactor, engine: Engine, lock: FileLock) -> None:
        self._reactor = reactor
        self._engine = engine
        self._lock = lock
        self._waiting = Waiting(reactor)
        self._failing = False
        self._crew = Crew(reactor, self._work, size=1, name="store-writer")

    def run(self, fn: Callable[[Connection], T]) -> Deferred[T]:
        return self._waiting.ask(fn)

    def close(self) -> Deferred[None]:
        self._waiting.close()
        return self._crew.wait()

    def _work(self) -> None:
        while self._waiting.wait():
            with self._lock.held():
                group = self._waiting.take(GROUP)  # after the wait for the lock, which let more come in
                outcomes = self._commit(group)
            self._reactor.callFromThread(self._settle, group, outcomes)

    @staticmethod
    def _settle(group: list[Asked], outcomes: list[Any]) -> None:
        for asked, outcome in zip(group, outcomes, strict=True):
            asked.settle(outcome)

    def _commit(self, group: list[Asked]) -> list[Any]:
        """One outcome for each: its result, or what it raised; when the commit fails, that failure for all."""
        try:
            with self._engine.begin() as connection:
                outcomes = [_attempt(connection, asked.fn) for asked in group]
        except Exception as error:
            if not self._failing:
                self._failing = True  # said once: a full disk would fill up with it
                self._reactor.callFromThread(self._log.error, "changes cannot be committed: {error}", error=error)
            return [unavailable() if is_away(error) else error] * len(group)
        self._failing = False
        return outcomes


def _attempt(connection: Connection, fn: Callable[[Connection], Any]) -> Any:
    """The result of `fn`, or what it raised, with nothing of it left in the transaction.

    Raises when the whole transaction is lost: SQLite may roll it back on a full disk or a fault of the file.
    """
    outcome: Any
    connection.exec_driver_sql("SAVEPOINT one")
    try:
        outcome = fn(connection)
    except Exception as error:
        if is_away(error) or not in_transaction(connection):
            raise
        outcome = error
        connection.exec_driver_sql("ROLLBACK TO one")
    connection.exec_driver_sql("RELEASE one")
    return outcome
