"""The audit chain in SQL: an entry is appended within the transaction of its deed, or the deed is not done.

Whoever appends must see the last entry that will ever stand before its own. SQLite has one writer at a time; in
PostgreSQL an advisory lock, held to the end of the transaction, makes one of those that append. So a deed appends last,
when it waits for no other lock any more.
"""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, Connection, Row, bindparam, func, insert, select, type_coerce
from sqlalchemy.exc import DBAPIError, OperationalError
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.model.audit import EPOCH, AuditEntry, AuditEvent, AuditHead, Deed, next_entry
from opencertd.store.database import Database
from opencertd.store.schema import audit
from opencertd.store.statements import Direct

_log = Logger()

_APPENDING = 0x6F63642D61756469  # the key of PostgreSQL's advisory lock: "ocd-audi" in ASCII
_LOCK = Direct(select(func.pg_advisory_xact_lock(_APPENDING).label("locked")))
_HEAD = Direct(select(audit.c.sequence, audit.c.hash).order_by(audit.c.sequence.desc()).limit(1))
_APPEND = Direct(insert(audit))
_AS_IT_IS = select(type_coerce(audit.c.at, BigInteger).label("at"), *(c for c in audit.c if c.name != "at"))
_ALL = _AS_IT_IS.order_by(audit.c.sequence).limit(bindparam("most"))
_PAGE = _ALL.where(audit.c.sequence > bindparam("after"))
_ONE = select(audit).where(audit.c.sequence == bindparam("sequence"))
_LATEST = (
    select(audit)
    .where(audit.c.deed == Deed.SETTINGS.value, audit.c.who == bindparam("who"))
    .order_by(audit.c.sequence.desc())
    .limit(1)
)


def append(connection: Connection, *events: AuditEvent) -> None:
    """Add entries to the chain in the transaction of whoever calls; the last thing that transaction does.

    Refusal UNAVAILABLE when the chain cannot be written, which undoes the deed too.
    """
    if not events:
        return
    try:
        if connection.dialect.name != "sqlite":
            _LOCK.first(connection)
        head = _head(connection)
        for event in events:
            entry = next_entry(head, event)
            _APPEND.count(connection, **vars(entry))
            head = AuditHead(entry.sequence, entry.hash)
    except OperationalError:
        raise  # PostgreSQL is away, or this lost a race: known to whoever runs the transaction
    except (DBAPIError, sqlite3.Error) as error:
        _log.failure("the audit chain cannot be written, so nothing is issued or revoked")
        raise Refusal(RefusalKind.UNAVAILABLE, "the audit log cannot be written", retry_after=30) from error


def _head(connection: Connection) -> AuditHead:
    row = _HEAD.first(connection)
    return AuditHead() if row is None else AuditHead(*row)


class SqlAuditStore:
    """The audit chain over a `Database`, for those who read it and for deeds that have no transaction of their own."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database

    def record(self, event: AuditEvent) -> Deferred[None]:
        """Append one entry. Refusal UNAVAILABLE when that cannot be done."""
        return self._database.write(lambda connection: append(connection, event))

    def head(self) -> Deferred[AuditHead]:
        """The end of the chain."""
        return self._database.read(_head)

    def entry(self, sequence: int) -> Deferred[AuditEntry | None]:
        """The entry of that number."""
        return self._database.read(lambda connection: _one(connection, _ONE, sequence=sequence))

    def latest_settings(self, who: str) -> Deferred[AuditEntry | None]:
        """The last entry about the settings of that node."""
        return self._database.read(lambda connection: _one(connection, _LATEST, who=who))

    def page(self, after: int | None, limit: int) -> Deferred[tuple[AuditEntry, ...]]:
        """At most `limit` entries with a number above `after` (None: all), in order; readable whatever is in them."""
        query, asked = (_ALL, {"most": limit}) if after is None else (_PAGE, {"after": after, "most": limit})

        def page(connection: Connection) -> tuple[AuditEntry, ...]:
            return tuple(_as_it_is(row) for row in connection.execute(query, asked))

        return self._database.read(page, long=True)


def _one(connection: Connection, query: Any, **asked: Any) -> AuditEntry | None:
    row = connection.execute(query, asked).one_or_none()
    return None if row is None else _entry(row)


def _as_it_is(row: Row[Any]) -> AuditEntry:
    """The entry, for checking: a time that is none becomes the beginning of all, with which no hash agrees."""
    try:
        at = EPOCH + timedelta(milliseconds=row.at)
    except (TypeError, OverflowError):
        at = EPOCH
    return AuditEntry(**{**row._mapping, "at": at})


def _entry(row: Row[Any]) -> AuditEntry:
    return AuditEntry(**row._mapping)
