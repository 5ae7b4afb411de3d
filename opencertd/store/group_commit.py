"""Group commit: what is asked while a commit is on its way to the disk goes into the next one.

A commit costs the disk's patience, not ours, and costs the same for one change as for a hundred. A function that fails
(a Refusal is an ordinary answer) takes nobody with it: the group is then undone and run again, each function inside a
savepoint of its own, which costs too much to be had for nothing. Nothing is answered before the commit that holds it.
Processes on one file queue at a lock around the whole group, because writers that meet at SQLite's own lock poll it and
starve each other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Engine
from twisted.logger import Logger

from opencertd.store.sqlite import driver_of, is_away, unavailable
from opencertd.store.threads import Function

GROUP = 128
"""At most so many functions per commit: enough that the disk is no longer what costs, few enough to answer soon."""


class GroupCommit:
    """Runs groups of writing functions, from one thread. `engine` needs one connection.

    `check` raises OSError when the file cannot be written to, and is asked before every commit.
    """

    _log = Logger()

    def __init__(self, engine: Engine, check: Callable[[], None]) -> None:
        self._engine = engine
        self._check = check
        self._failing = False

    def transact(self, fns: Sequence[Function]) -> list[Any]:
        """For each its result or what it raised, committed; when the commit fails, that failure for all. Blocks."""
        if not fns:
            return []
        try:
            outcomes = self._together(fns) or self._apart(fns)
        except Exception as error:
            if not self._failing:
                self._failing = True  # said once: a full disk would fill up with it
                self._log.failure("changes cannot be committed")
            return [unavailable() if is_away(error) else error] * len(fns)
        self._failing = False
        return outcomes

    def _together(self, fns: Sequence[Function]) -> list[Any] | None:
        """As `transact`, if no function fails or there is but one; otherwise nothing is done and None is answered."""
        outcomes: list[Any] = []
        with self._engine.connect() as connection, connection.begin() as transaction:
            for fn in fns:
                try:
                    outcomes.append(fn(connection))
                except Exception as error:
                    if is_away(error):
                        raise
                    transaction.rollback()
                    return [error] if len(fns) == 1 else None
            self._check()
        return outcomes

    def _apart(self, fns: Sequence[Function]) -> list[Any]:
        with self._engine.begin() as connection:
            driver = driver_of(connection)
            outcomes = [_attempt(connection, driver, fn) for fn in fns]
            self._check()
        return outcomes


def _attempt(connection: Connection, driver: sqlite3.Connection, fn: Function) -> Any:
    """The result of `fn`, or what it raised, with nothing of it left in the transaction.

    Raises when the whole transaction is lost: SQLite may roll it back on a full disk or a fault of the file.
    """
    outcome: Any
    driver.execute("SAVEPOINT one")
    try:
        outcome = fn(connection)
    except Exception as error:
        if is_away(error) or not driver.in_transaction:
            raise
        outcome = error
        driver.execute("ROLLBACK TO one")
    driver.execute("RELEASE one")
    return outcome
