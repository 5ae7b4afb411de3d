"""CRLs in SQL: a number is taken by the one insert that succeeds."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select
from twisted.internet.defer import Deferred

from opencertd.clock import Clock
from opencertd.crl.store import PublishedCrl, RevokedEntry
from opencertd.issuance.audit import crl_signed
from opencertd.model.certificates import Revocation, RevocationReason
from opencertd.store.audit import append
from opencertd.store.database import Database
from opencertd.store.hierarchy import last_expiry
from opencertd.store.revocations import IN_FORCE
from opencertd.store.schema import crls, issuers, revocations
from opencertd.store.statements import execute, on_both

_LATEST = select(crls).where(crls.c.issuer_id == bindparam("issuer_id")).order_by(crls.c.number.desc()).limit(1)
_HIGHEST = select(func.max(crls.c.number)).where(crls.c.issuer_id == bindparam("issuer_id"))
_EVERY_ENTRY = select(
    revocations.c.serial, revocations.c.revoked_at, revocations.c.reason, revocations.c.invalidity_date
).where(revocations.c.issuer_id == bindparam("issuer_id"), IN_FORCE)
_ENTRIES = _EVERY_ENTRY.where(revocations.c.not_after >= bindparam("expired_after"))
_LOCK_ISSUER = select(issuers.c.id).where(issuers.c.id == bindparam("issuer_id")).with_for_update()
_PUBLISH = on_both(
    lambda insert: (
        insert(crls).on_conflict_do_nothing(index_elements=[crls.c.issuer_id, crls.c.number]).returning(crls.c.number)
    )
)


class SqlCrlStore:
    """The `CrlStore` over a `Database`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def latest(self, issuer_id: str) -> Deferred[PublishedCrl | None]:
        def latest(connection: Connection) -> PublishedCrl | None:
            row = connection.execute(_LATEST, {"issuer_id": issuer_id}).one_or_none()
            if row is None:
                return None
            return PublishedCrl(row.issuer_id, row.number, row.this_update, row.next_update, row.crl_der)

        return self._database.read(latest)

    def latest_number(self, issuer_id: str) -> Deferred[int]:
        return self._database.read(lambda connection: latest_number(connection, issuer_id))

    def entries(self, issuer_id: str, expired_after: datetime) -> Deferred[tuple[RevokedEntry, ...]]:
        asked = {"issuer_id": issuer_id, "expired_after": expired_after}

        def entries(connection: Connection) -> tuple[RevokedEntry, ...]:
            return _sorted(connection.execute(_ENTRIES, asked))

        return self._database.read(entries, long=True)

    def last_expiry(self, issuer_id: str) -> Deferred[datetime | None]:
        return self._database.read(lambda connection: last_expiry(connection, issuer_id, authorities=True), long=True)

    def publish(self, crl: PublishedCrl, after: int) -> Deferred[bool]:
        def publish(connection: Connection) -> bool:
            # Two that look at once could both find `after` and take different numbers: one waits here for the other.
            connection.execute(_LOCK_ISSUER, {"issuer_id": crl.issuer_id})
            published = crl.number > after == latest_number(connection, crl.issuer_id) and insert_crl(connection, crl)
            # The key was used either way.
            now = self._clock.now()
            append(connection, crl_signed(crl.issuer_id, crl.number, crl.crl_der, published=published, at=now))
            return published

        return self._database.write(publish)


def latest_number(connection: Connection, issuer_id: str) -> int:
    """The highest number published, 0 when none was."""
    highest = connection.execute(_HIGHEST, {"issuer_id": issuer_id}).scalar()
    return 0 if highest is None else int(highest)


def insert_crl(connection: Connection, crl: PublishedCrl) -> bool:
    """Keep the CRL; False when its number is taken."""
    return execute(connection, _PUBLISH, vars(crl)).one_or_none() is not None


def all_entries(connection: Connection, issuer_id: str) -> tuple[RevokedEntry, ...]:
    """Whatever the issuer has revoked, expired or not, by serial."""
    return _sorted(connection.execute(_EVERY_ENTRY, {"issuer_id": issuer_id}))


def _sorted(found: Iterable[Row[Any]]) -> tuple[RevokedEntry, ...]:
    # Sorted here: hex digits of different length do not sort as numbers, and collations differ.
    rows = sorted((tuple(row) for row in found), key=lambda row: row[0])
    return tuple(
        RevokedEntry(serial, Revocation(when, RevocationReason(reason), invalid_since))
        for serial, when, reason, invalid_since in rows
    )
