"""A `Database` runs functions on a connection, each in one transaction, and answers by Deferreds.

A function may be run more than once (a lost race is run again), so it must do nothing but use its connection. What a
function raises is what the Deferred fails with, and nothing of it is kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from twisted.internet.defer import Deferred

from opencertd.errors import StartError
from opencertd.store import postgresql, sqlite
from opencertd.store.glance import GlancingReader
from opencertd.store.group_commit import GROUP, GroupCommit
from opencertd.store.migrate import migrate
from opencertd.store.schema import metadata
from opencertd.store.threads import Function, InlineRunner, Reactor, Runner, ThreadedRunner, Transact, one_by_one

T = TypeVar("T")

READ_GROUP = 32  # reads of a SQLite file that share a transaction: together a few milliseconds
READERS = 4  # threads that read from PostgreSQL, each with a connection
_LITTLE = 1 << 20  # octets
WRITERS = 6  # threads that write to PostgreSQL, which makes groups of concurrent commits by itself


class Database:
    """One database, open. Belongs to one process: open it after the fork."""

    def __init__(
        self,
        *,
        reader: Runner,
        long_reader: Runner,
        writer: Runner,
        release: Callable[[], None],
        glance: Callable[[Function], Deferred[Any]] | None = None,
    ) -> None:
        self._reader = reader
        self._glance = glance or reader.run
        self._long_reader = long_reader
        self._writer = writer
        self._release = release

    @classmethod
    def in_memory(cls) -> Database:
        """A new, empty database in memory. Its Deferreds have fired when they are returned. For tests."""
        engine = sqlite.memory_engine()
        metadata.create_all(engine)
        runner = InlineRunner(lambda fn: sqlite.transact(engine, fn))
        return cls(reader=runner, long_reader=runner, writer=runner, release=engine.dispose)

    @classmethod
    def open(cls, url: str, reactor: Reactor) -> Database:
        """The database at `url`, brought to the present schema: `sqlite:////path/file` or `postgresql://…`.

        Blocks while it connects and migrates. Raises StartError when that cannot be done. Every answer comes within
        `waiting.PATIENCE` seconds, as Refusal UNAVAILABLE if need be.
        """
        return _open(url, reactor)

    @classmethod
    def open_inline(cls, url: str) -> Database:
        """As `open`, for where no reactor runs: its Deferreds have fired when they are returned, and asking blocks."""
        return _open(url, None)

    def read(self, fn: Callable[[Connection], T], *, long: bool = False) -> Deferred[T]:
        """The result of `fn`, which sees one moment and changes nothing. Nobody waits for one that takes `long`."""
        return (self._long_reader if long else self._reader).run(fn)

    def glance(self, fn: Callable[[Connection], T]) -> Deferred[T]:
        """As `read`, where `fn` asks one thing, for a few rows it finds by their keys: on SQLite that is done at once.

        It takes microseconds there (`glance.py` says what bounds them); elsewhere a thread does it.
        """
        return self._glance(fn)

    def write(self, fn: Callable[[Connection], T]) -> Deferred[T]:
        """The result of `fn`, once what it changed is durable; nothing of it is kept if it raises."""
        return self._writer.run(fn)

    async def close(self) -> None:
        """Wait for what is queued, then let go of the database. What is asked later is refused."""
        for closing in [self._writer.close(), self._reader.close(), self._long_reader.close()]:
            await closing
        self._release()


def _open(text: str, reactor: Reactor | None) -> Database:
    try:
        url = make_url(text)
    except ArgumentError:
        raise StartError(
            "The database URL is not one: it should read sqlite:////path/file or postgresql://user@host/name."
        ) from None
    if url.drivername == "sqlite":
        return _open_sqlite(url, reactor)
    if url.drivername in {"postgresql", "postgres", "postgresql+psycopg"}:
        return _open_postgresql(url, reactor)
    raise StartError(f"The database URL begins with {url.drivername!r}: it must be sqlite or postgresql.")


def _open_sqlite(url: URL, reactor: Reactor | None) -> Database:
    if not url.database or url.database == ":memory:":
        raise StartError("The database URL names no file: it should read sqlite:////path/file.")
    path = Path(url.database).absolute()
    lock = sqlite.prepare_file(path)
    writing = sqlite.file_engine(path, writing=True, connections=1)
    reading = sqlite.file_engine(path, writing=False, connections=2)
    try:
        with lock.held():
            sqlite.use_wal(writing)
            migrate(writing)
    except DBAPIError as error:
        raise StartError(f"The database {path} cannot be used: {_cause(error)}{_little_room(path)}.") from error

    def read(fn: Function) -> Any:
        return sqlite.transact(reading, fn)

    def write(fn: Function) -> Any:
        with lock.held():
            return sqlite.transact(writing, fn)

    def release() -> None:
        if glancing is not None:
            glancing.release()
        reading.dispose()
        writing.dispose()
        lock.close()

    glancing: GlancingReader | None = None
    if reactor is None:
        return _inline(read, write, release)

    def read_group(fns: Sequence[Function]) -> list[Any]:
        return sqlite.read_group(reading, fns)

    writer = GroupCommit(writing, sqlite.identity_check(path))
    reader = ThreadedRunner(reactor, read_group, group=READ_GROUP, name="store-reader")
    glancing = GlancingReader(path, otherwise=reader)
    return Database(
        reader=reader,
        long_reader=ThreadedRunner(reactor, read_group, name="store-long-reader"),
        writer=ThreadedRunner(reactor, writer.transact, group=GROUP, turn=lock.held, name="store-writer"),
        release=release,
        glance=glancing.run,
    )


def _open_postgresql(url: URL, reactor: Reactor | None) -> Database:
    engine = postgresql.postgresql_engine(url, connections=READERS + WRITERS)
    try:
        migrate(engine)
    except DBAPIError as error:
        raise StartError(
            f"The database {url.render_as_string(hide_password=True)} cannot be used: {_cause(error)}."
        ) from error
    reading = postgresql.reading(engine)

    def read(fn: Function) -> Any:
        return postgresql.transact(reading, fn)

    def write(fn: Function) -> Any:
        return postgresql.transact(engine, fn)

    if reactor is None:
        return _inline(read, write, engine.dispose)
    reader = ThreadedRunner(reactor, one_by_one(read), size=READERS, name="store-reader")
    return Database(
        reader=reader,
        long_reader=reader,
        writer=ThreadedRunner(reactor, one_by_one(write), size=WRITERS, name="store-writer"),
        release=engine.dispose,
    )


def _inline(read: Transact, write: Transact, release: Callable[[], None]) -> Database:
    reader = InlineRunner(read)
    return Database(reader=reader, long_reader=reader, writer=InlineRunner(write), release=release)


def _cause(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(cause).split()).rstrip(".")


def _little_room(path: Path) -> str:
    """SQLite calls a full disk an I/O error."""
    free = shutil.disk_usage(path.parent).free
    return f" ({free >> 10} KiB are free on its disk)" if free < _LITTLE else ""
