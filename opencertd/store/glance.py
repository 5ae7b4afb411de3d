"""Reads of a few rows by their keys, one statement each, in the reactor's thread: waking another takes longer.

Nothing is waited for there. In WAL mode no writer stands in a reader's way; in the rare moments in which one does
(another program recovers or takes the file for itself), and when the file cannot be read, the question goes to the
thread that waits for such things. What is left is the disk, for a page that nobody has read for long.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool
from twisted.internet import defer
from twisted.internet.defer import Deferred

from opencertd.store.sqlite import is_away
from opencertd.store.threads import Runner

T = TypeVar("T")


class GlancingReader:
    """Runs functions at once, on one connection; what cannot be done at once is given to `otherwise`."""

    def __init__(self, path: Path, otherwise: Runner) -> None:
        self._otherwise = otherwise
        engine = create_engine(
            f"sqlite:///{path}", poolclass=StaticPool, connect_args={"check_same_thread": False, "timeout": 0}
        )

        @event.listens_for(engine, "connect")
        def _connected(connection: sqlite3.Connection, _record: object) -> None:
            connection.isolation_level = None  # a statement is a transaction
            connection.execute("PRAGMA query_only=ON")

        self._engine = engine
        self._connection = engine.connect()

    def run(self, fn: Callable[[Connection], T]) -> Deferred[T]:
        """The result of `fn`, which asks one thing and so sees one moment."""
        if self._connection.closed:
            return self._otherwise.run(fn)
        try:
            return defer.succeed(self._look(fn))
        except (DBAPIError, sqlite3.Error) as error:
            return self._otherwise.run(fn) if is_away(error) else defer.fail(error)
        except Exception as error:
            return defer.fail(error)

    def _look(self, fn: Callable[[Connection], T]) -> T:
        try:
            return fn(self._connection)
        finally:
            if self._connection.in_transaction():  # SQLAlchemy believes that it has begun one
                self._connection.rollback()

    def release(self) -> None:
        """Let go of the file."""
        self._connection.close()
        self._engine.dispose()
