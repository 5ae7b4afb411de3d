"""PostgreSQL: short transactions in threads, retried where that is safe, and never waited for without end.

Writes run at READ COMMITTED and rely on constraints, row locks and compare-and-swap. Reads run at REPEATABLE READ,
so that the several statements of one read see one moment, as they do in SQLite.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from opencertd.errors import Refusal, RefusalKind

T = TypeVar("T")

ATTEMPTS = 5
CONNECT_TIMEOUT = 5  # seconds
STATEMENT_TIMEOUT = 10_000  # milliseconds
LOCK_TIMEOUT = 4_000  # milliseconds

_RACED = frozenset({"40001", "40P01"})  # serialization_failure, deadlock_detected: nothing was done
_AWAY = ("08", "25006", "53", "55P03", "57", "58")  # connection, read-only, resources, lock, operator, system


def postgresql_engine(url: URL, *, connections: int) -> Engine:
    """An engine whose waits are all bounded: for a connection, a lock, a statement, and a peer that went silent."""
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        isolation_level="READ COMMITTED",
        pool_size=connections,
        max_overflow=0,
        pool_timeout=CONNECT_TIMEOUT,
        connect_args={
            "application_name": "opencertd",
            "connect_timeout": CONNECT_TIMEOUT,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": STATEMENT_TIMEOUT,
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT} -c lock_timeout={LOCK_TIMEOUT}"
            f" -c idle_in_transaction_session_timeout={STATEMENT_TIMEOUT}",
        },
    )


def reading(engine: Engine) -> Engine:
    """The same connections, in transactions that see one moment and cannot change anything."""
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def transact(engine: Engine, fn: Callable[[Connection], T]) -> T:
    """Run `fn` in one transaction, again when it lost a race or its connection before the commit. Blocks.

    Refusal UNAVAILABLE when the database is away. A connection lost during the commit is not tried again: the
    commit may have happened.
    """
    attempt = 0
    while True:
        attempt += 1
        committing = False
        try:
            with engine.connect() as connection:
                with connection.begin() as transaction:
                    result = fn(connection)
                    committing = True
                    transaction.commit()
                return result
        except (DBAPIError, PoolTimeoutError) as error:
            if attempt < ATTEMPTS and _may_try_again(error, committing=committing):
                time.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311  (only spreads the racers)
                continue
            if is_away(error):
                raise Refusal(
                    RefusalKind.UNAVAILABLE, "the store cannot be used at the moment", retry_after=30
                ) from error
            raise


def sqlstate(error: Exception) -> str:
    """The five characters PostgreSQL gives an error, or the empty string."""
    cause: Any = error.orig if isinstance(error, DBAPIError) else None
    return getattr(cause, "sqlstate", None) or ""


def is_away(error: Exception) -> bool:
    """Whether `error` tells of a server that is gone, overloaded or locked, and not of a wrong statement."""
    if isinstance(error, PoolTimeoutError):
        return True
    state = sqlstate(error)
    if not state:
        return isinstance(error, OperationalError)  # the driver's own: no connection, connection lost
    return state in _RACED or state.startswith(_AWAY)


def _may_try_again(error: Exception, *, committing: bool) -> bool:
    if sqlstate(error) in _RACED:
        return True
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    return lost and not committing
