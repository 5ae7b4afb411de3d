"""SQLite as this CA needs it: durable, strict about foreign keys, private to its owner, and never two writers at once.

WAL with synchronous=FULL means that an answered commit survives a power cut (sqlite.org/pragma.html, "synchronous").
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool, StaticPool

from opencertd.errors import Refusal, RefusalKind, StartError

T = TypeVar("T")

BUSY_TIMEOUT = 10_000  # milliseconds; other programs (a backup, the sqlite3 shell) may hold the file for a while

_AWAY = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)


def is_away(error: Exception) -> bool:
    """Whether `error` tells of the machine (disk full, file locked …) and not of a wrong statement."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, OSError):
        return True
    code = getattr(cause, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _AWAY  # the low byte is the primary result code


def unavailable() -> Refusal:
    """What is answered while the file cannot be used; the cause goes into the log, not to clients."""
    return Refusal(RefusalKind.UNAVAILABLE, "the store cannot be used at the moment", retry_after=30)


class FileLock:
    """A lock between processes, on a file of its own: one that dies lets go of it.

    The lock belongs to the open file: whoever forks must open anew in the child.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait for the lock and hold it. Blocks."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Forget the file."""
        os.close(self._file)


def prepare_file(path: Path) -> FileLock:
    """Make the database file and its lock, readable by the owner alone, and answer the lock.

    SQLite gives `-wal` and `-shm` the mode of the database itself. Raises StartError when the place is not usable.
    """
    try:
        lock = FileLock(path.with_name(path.name + ".lock"))
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(file, 0o600)
        finally:
            os.close(file)
    except OSError as error:
        raise StartError(
            f"The database {path} cannot be opened: {error.strerror}. Its directory must exist and be writable."
        ) from error
    return lock


def identity_check(path: Path) -> Callable[[], None]:
    """A check that `path` is still the file that it is now; it raises OSError when that was removed or replaced.

    SQLite would go on writing to the file it has open, and all of it would be gone with the process.
    """

    def identity() -> tuple[int, int]:
        found = path.stat()
        return found.st_dev, found.st_ino

    expected = identity()

    def check() -> None:
        if identity() != expected:
            raise OSError(f"the database {path} was replaced while it was in use")

    return check


def file_engine(path: Path, *, writing: bool, connections: int) -> Engine:
    """An engine on the file; one that is not `writing` cannot change it, and sees one moment per transaction."""
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        connect_args={"check_same_thread": False},
    )
    _govern(engine, begin="BEGIN IMMEDIATE" if writing else "BEGIN", read_only=not writing)
    return engine


def use_wal(engine: Engine) -> None:
    """Set write-ahead logging, which the file then keeps. Needs the file for oneself, unless it is set already."""
    with engine.connect() as connection:
        connection.connection.cursor().execute("PRAGMA journal_mode=WAL").close()


def memory_engine() -> Engine:
    """An engine on a database of one connection that is gone with it."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    _govern(engine, begin="BEGIN IMMEDIATE", read_only=False)
    return engine


def _govern(engine: Engine, *, begin: str, read_only: bool) -> None:
    """Take transactions out of the driver's hands, which would begin them late, and set what holds per connection."""

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT}")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=FULL")
        if read_only:
            connection.execute("PRAGMA query_only=ON")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        driver_of(connection).execute(begin)


def transact(engine: Engine, fn: Callable[[Connection], T]) -> T:
    """Run `fn` in one transaction on `engine`. Refusal UNAVAILABLE when the file cannot be used. Blocks."""
    try:
        with engine.begin() as connection:
            return fn(connection)
    except (DBAPIError, sqlite3.Error) as error:
        if is_away(error):
            raise unavailable() from error
        raise


def read_group(engine: Engine, fns: Sequence[Callable[[Connection], Any]]) -> list[Any]:
    """Run functions that only read in one transaction; for each its result or what it raised. Blocks."""
    if not fns:
        return []
    try:
        with engine.begin() as connection:
            return [_outcome(connection, fn) for fn in fns]
    except (DBAPIError, sqlite3.Error) as error:
        return [unavailable() if is_away(error) else error] * len(fns)


def _outcome(connection: Connection, fn: Callable[[Connection], Any]) -> Any:
    try:
        return fn(connection)
    except Exception as error:
        return unavailable() if is_away(error) else error


def driver_of(connection: Connection) -> sqlite3.Connection:
    """The driver's own connection, for statements that need none of SQLAlchemy's care."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError("this is no connection to SQLite")
    return driver
