"""CRLs in SQL: a number is taken by the one insert that succeeds."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, func, select
from twisted.internet.defer import Deferred

from opencertd.clock import Clock
from opencertd.crl.store import PublishedCrl, RevokedEntry
from opencertd.model.certificates import Revocation, RevocationReason
from opencertd.store.database import Database
from opencertd.store.schema import crls, revocations
from opencertd.store.statements import insert_into


class SqlCrlStore:
    """The `CrlStore` over a `Database`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database

    def latest(self, issuer_id: str) -> Deferred[PublishedCrl | None]:
        def latest(connection: Connection) -> PublishedCrl | None:
            row = connection.execute(
                select(crls).where(crls.c.issuer_id == issuer_id).order_by(crls.c.number.desc()).limit(1)
            ).one_or_none()
            if row is None:
                return None
            return PublishedCrl(row.issuer_id, row.number, row.this_update, row.next_update, row.crl_der)

        return self._database.read(latest)

    def latest_number(self, issuer_id: str) -> Deferred[int]:
        return self._database.read(lambda connection: _latest_number(connection, issuer_id))

    def entries(self, issuer_id: str, expired_after: datetime) -> Deferred[tuple[RevokedEntry, ...]]:
        query = select(revocations.c.serial, revocations.c.revoked_at, revocations.c.reason).where(
            revocations.c.issuer_id == issuer_id, revocations.c.not_after >= expired_after
        )

        def entries(connection: Connection) -> tuple[RevokedEntry, ...]:
            # Sorted here: hex digits of different length do not sort as numbers, and collations differ.
            rows = sorted((serial, when, reason) for serial, when, reason in connection.execute(query))
            return tuple(
                RevokedEntry(serial, Revocation(when, RevocationReason(reason))) for serial, when, reason in rows
            )

        return self._database.read(entries)

    def publish(self, crl: PublishedCrl) -> Deferred[bool]:
        def publish(connection: Connection) -> bool:
            if crl.number != _latest_number(connection, crl.issuer_id) + 1:
                return False
            taken = connection.execute(
                insert_into(connection, crls)
                .values(
                    issuer_id=crl.issuer_id,
                    number=crl.number,
                    this_update=crl.this_update,
                    next_update=crl.next_update,
                    crl_der=crl.crl_der,
                )
                .on_conflict_do_nothing(index_elements=[crls.c.issuer_id, crls.c.number])
                .returning(crls.c.number)
            )
            return taken.one_or_none() is not None

        return self._database.write(publish)


def _latest_number(connection: Connection, issuer_id: str) -> int:
    highest = connection.execute(select(func.max(crls.c.number)).where(crls.c.issuer_id == issuer_id)).scalar()
    return 0 if highest is None else int(highest)
