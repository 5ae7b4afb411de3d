"""CRLs in SQL: a number is taken by the one insert that succeeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, and_, bindparam, delete, func, select
from twisted.internet.defer import Deferred

from opencertd.asn1.crl import encode_removed_entry
from opencertd.clock import Clock
from opencertd.crl.store import DELTA, Entries, Line, PublishedCrl, Scheme, Standing
from opencertd.issuance.audit import crl_signed
from opencertd.model.certificates import RevocationState
from opencertd.model.crl_parts import ALL, CAS, USERS, Part
from opencertd.store.audit import append
from opencertd.store.database import Database
from opencertd.store.hierarchy import last_expiry
from opencertd.store.revocations import IN_FORCE
from opencertd.store.schema import issuers
from opencertd.store.sqlite import driver_of
from opencertd.store.statements import Direct, execute, on_both
from opencertd.store.status_tables import crl_schemes, crls, revocations

T = TypeVar("T")

_BLOCK = 2000
"""Entries of a block: some 70 kB."""
_LARGE = 1 << 20
"""Octets of a CRL from which it is written in pieces."""
_MAKE_ROOM = "UPDATE crls SET crl_der = zeroblob(?) WHERE issuer_id = ? AND part = ? AND number = ?"
_ROW_ID = "SELECT rowid FROM crls WHERE issuer_id = ? AND part = ? AND number = ?"
_OVERLAP = timedelta(minutes=10)
"""A change may be committed, and be seen, some time after it was recorded; what a delta CRL says twice is no harm."""

_OF_PART = (crls.c.issuer_id == bindparam("issuer_id"), crls.c.part == bindparam("part"))
_HIGHEST = select(func.max(crls.c.number)).where(*_OF_PART)
_COMPLETE = crls.c.base.is_(None)
_DELTA = crls.c.base.is_not(None)
_OF_LINE = {delta: (*_OF_PART, _DELTA if delta else _COMPLETE) for delta in (False, True)}
_LATEST = {
    delta: select(crls).where(*of_line).order_by(crls.c.number.desc()).limit(1) for delta, of_line in _OF_LINE.items()
}
_LATEST_NUMBER = {
    delta: Direct(select(func.max(crls.c.number).label("number")).where(*of_line))
    for delta, of_line in _OF_LINE.items()
}
_BASE = (
    select(crls.c.number, crls.c.this_update)
    .where(crls.c.issuer_id == bindparam("issuer_id"), crls.c.part == ALL.word, _COMPLETE)
    .limit(1)
)
_OF_ISSUER = revocations.c.issuer_id == bindparam("issuer_id")
_NOT_EXPIRED = revocations.c.not_after >= bindparam("expired_after")
# An index has them in this order, which lasts: a certificate's expiry never changes.
_ORDER = (revocations.c.not_after, revocations.c.certificate_id)
_EVERY_ENTRY = select(revocations.c.entry_der).where(_OF_ISSUER, IN_FORCE).order_by(*_ORDER)
_ALL_ENTRIES = Direct(_EVERY_ENTRY)
_ENTRIES = _EVERY_ENTRY.where(_NOT_EXPIRED)
_OF_ALL = Direct(_ENTRIES)
_OF_CAS = Direct(_ENTRIES.where(revocations.c.ca))
_OF_USERS = Direct(_ENTRIES.where(~revocations.c.ca))
_OF_SHARD = Direct(_ENTRIES.where(revocations.c.bucket >= bindparam("first"), revocations.c.bucket < bindparam("end")))
_CHANGES = (
    select(revocations.c.state, revocations.c.serial, revocations.c.revoked_at, revocations.c.entry_der)
    .where(_OF_ISSUER, _NOT_EXPIRED, revocations.c.recorded_at >= bindparam("since"))
    .order_by(*_ORDER)
)
_UNEXPECTED = select(revocations.c.serial).where(
    _OF_ISSUER, _NOT_EXPIRED, IN_FORCE, revocations.c.serial.in_(bindparam("serials", expanding=True))
)
_LOCK_ISSUER = select(issuers.c.id).where(issuers.c.id == bindparam("issuer_id")).with_for_update()
_PUBLISH = on_both(
    lambda insert: (
        insert(crls)
        .on_conflict_do_nothing(index_elements=[crls.c.issuer_id, crls.c.part, crls.c.number])
        .returning(crls.c.number)
    )
)
_SCHEMES = select(crl_schemes.c.name, crl_schemes.c.points).where(crl_schemes.c.issuer_id == bindparam("issuer_id"))
_FORGET_SCHEMES = delete(crl_schemes).where(crl_schemes.c.issuer_id == bindparam("of_issuer"))
_ADOPT = on_both(lambda insert: insert(crl_schemes))
_SERIALS = 500


class SqlCrlStore:
    """The `CrlStore` over a `Database`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def latest(self, line: Line) -> Deferred[PublishedCrl | None]:
        def latest(connection: Connection) -> PublishedCrl | None:
            row = connection.execute(_LATEST[line.delta], _asked(line.issuer_id, line.part)).one_or_none()
            if row is None:
                return None
            times = row.this_update, row.next_update
            return PublishedCrl(row.issuer_id, row.number, *times, row.crl_der, Part(row.part), row.base)

        return self._database.read(latest)

    def latest_number(self, line: Line) -> Deferred[int]:
        return self._database.glance(lambda connection: _latest_number(connection, line))

    def highest(self, issuer_id: str, part: Part) -> Deferred[int]:
        return self._database.read(lambda connection: highest_number(connection, issuer_id, part))

    def standing(self, issuer_id: str) -> Deferred[tuple[Standing, ...]]:
        def standing(connection: Connection) -> tuple[Standing, ...]:
            found = []
            for delta, kind in ((False, _COMPLETE), (True, _DELTA)):
                c = crls.c
                newest = select(c.part, func.max(c.number).label("number")).where(c.issuer_id == issuer_id, kind)
                last = newest.group_by(c.part).subquery()
                of_last = and_(c.part == last.c.part, c.number == last.c.number)
                rows = connection.execute(
                    select(c.part, c.number, c.this_update).join(last, of_last).where(c.issuer_id == issuer_id)
                )
                found += [Standing(Line(issuer_id, Part(row.part), delta), row.number, row.this_update) for row in rows]
            return tuple(found)

        return self._database.read(standing)

    def base(self, issuer_id: str, before: datetime) -> Deferred[Standing | None]:
        def base(connection: Connection) -> Standing | None:
            asked = {"issuer_id": issuer_id}
            newest = _BASE.where(crls.c.this_update <= before).order_by(crls.c.number.desc())
            row = connection.execute(newest, asked).one_or_none()
            row = row or connection.execute(_BASE.order_by(crls.c.number), asked).one_or_none()
            return None if row is None else Standing(Line(issuer_id), row.number, row.this_update)

        return self._database.read(base)

    def entries(self, issuer_id: str, part: Part, expired_after: datetime) -> Deferred[Entries]:
        query, place = _query(part)
        asked = {"issuer_id": issuer_id, "expired_after": expired_after, **place}
        return self._database.read(lambda connection: _blocks(connection, query, **asked), long=True)

    def changes(self, issuer_id: str, since: datetime, expired_after: datetime) -> Deferred[Entries]:
        asked = {"issuer_id": issuer_id, "since": since - _OVERLAP, "expired_after": expired_after}

        def changes(connection: Connection) -> Entries:
            return tuple(map(b"".join, _batches(_changed(row) for row in connection.execute(_CHANGES, asked))))

        return self._database.read(changes, long=True)

    def last_expiry(self, issuer_id: str) -> Deferred[datetime | None]:
        return self._database.read(lambda connection: last_expiry(connection, issuer_id, authorities=True), long=True)

    def unexpected(self, issuer_id: str, serials: frozenset[int], expired_after: datetime) -> Deferred[frozenset[int]]:
        def unexpected(connection: Connection) -> frozenset[int]:
            found: set[int] = set()
            for batch in _batches(serials, _SERIALS):
                asked = {"issuer_id": issuer_id, "serials": batch, "expired_after": expired_after}
                found.update(connection.execute(_UNEXPECTED, asked).scalars())
            return frozenset(found)

        return self._database.read(unexpected, long=True)

    def publish(self, crl: PublishedCrl, after: int) -> Deferred[bool]:
        def publish(connection: Connection) -> bool:
            # Two that look at once could both find `after` and take different numbers: one waits here for the other.
            connection.execute(_LOCK_ISSUER, {"issuer_id": crl.issuer_id})
            highest = highest_number(connection, crl.issuer_id, crl.part)
            before = highest if crl.line.delta else _latest_number(connection, crl.line)
            published = crl.number > highest and after == before and insert_crl(connection, crl)
            # The key was used either way.
            now = self._clock.now()
            append(connection, crl_signed(crl.issuer_id, crl.number, crl.crl_der, published=published, at=now))
            return published

        return self._database.write(publish)

    def schemes(self, issuer_id: str) -> Deferred[tuple[Scheme, ...]]:
        def schemes(connection: Connection) -> tuple[Scheme, ...]:
            rows = connection.execute(_SCHEMES, {"issuer_id": issuer_id})
            return tuple(Scheme(row.name, tuple(row.points)) for row in rows)

        return self._database.read(schemes)

    def adopt_schemes(self, issuer_id: str, schemes: tuple[Scheme, ...], wait: int) -> Deferred[tuple[Scheme, ...]]:
        def adopt(connection: Connection) -> tuple[Scheme, ...]:
            connection.execute(_LOCK_ISSUER, {"issuer_id": issuer_id})
            held = {row.name: tuple(row.points) for row in connection.execute(_SCHEMES, {"issuer_id": issuer_id})}
            held.pop(DELTA, None)
            for scheme in schemes:
                points = (*scheme.points, *held.get(scheme.name, ()))
                held[scheme.name] = tuple(dict.fromkeys(points))
            connection.execute(_FORGET_SCHEMES, {"of_issuer": issuer_id})
            for name, points in held.items():
                execute(connection, _ADOPT, {"issuer_id": issuer_id, "name": name, "points": points, "wait": wait})
            return tuple(Scheme(name, points) for name, points in held.items())

        return self._database.write(adopt)


def highest_number(connection: Connection, issuer_id: str, part: Part) -> int:
    """The highest number published of a part, 0 when none was."""
    highest = connection.execute(_HIGHEST, _asked(issuer_id, part)).scalar()
    return 0 if highest is None else int(highest)


def _latest_number(connection: Connection, line: Line) -> int:
    row = _LATEST_NUMBER[line.delta].first(connection, **_asked(line.issuer_id, line.part))
    return int(row.number or 0)


def insert_crl(connection: Connection, crl: PublishedCrl) -> bool:
    """Keep the CRL; False when its number is taken."""
    row = {**vars(crl), "part": crl.part.word}
    if len(crl.crl_der) <= _LARGE or connection.dialect.name != "sqlite":
        return execute(connection, _PUBLISH, row).one_or_none() is not None
    # SQLite would copy it twice on its way into the file.
    if execute(connection, _PUBLISH, {**row, "crl_der": b""}).one_or_none() is None:
        return False
    driver = driver_of(connection)
    place = (crl.issuer_id, crl.part.word, crl.number)
    driver.execute(_MAKE_ROOM, (len(crl.crl_der), *place))
    (row_id,) = driver.execute(_ROW_ID, place).fetchone()
    with driver.blobopen("crls", "crl_der", row_id) as blob:
        view = memoryview(crl.crl_der)
        for start in range(0, len(view), _LARGE):
            blob.write(view[start : start + _LARGE])
    return True


def all_entries(connection: Connection, issuer_id: str) -> Entries:
    """Whatever the issuer has revoked, expired or not."""
    return _blocks(connection, _ALL_ENTRIES, issuer_id=issuer_id)


def _asked(issuer_id: str, part: Part) -> dict[str, str]:
    return {"issuer_id": issuer_id, "part": part.word}


def _query(part: Part) -> tuple[Direct, dict[str, int]]:
    """What reads the entries of the part, and what it is told of the part."""
    if part.shard is not None:
        first, end = part.buckets
        return _OF_SHARD, {"first": first, "end": end}
    return {CAS: _OF_CAS, USERS: _OF_USERS}.get(part, _OF_ALL), {}


def _blocks(connection: Connection, query: Direct, **asked: Any) -> Entries:
    return tuple(b"".join([row[0] for row in rows]) for rows in query.stream(connection, _BLOCK, **asked))


def _changed(row: Any) -> bytes:
    if row.state is RevocationState.RELEASED:
        return encode_removed_entry(row.serial, row.revoked_at)
    return bytes(row.entry_der)


def _batches(values: Iterable[T], size: int = _BLOCK) -> Iterator[list[T]]:
    rest = iter(values)
    while batch := list(islice(rest, size)):
        yield batch
