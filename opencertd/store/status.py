"""The read path of status in SQL.

The feed of revocations is ordered by when each was recorded, in milliseconds of the clock of the process that did it.
A row can be read only after its commit, so a moment may pass that is not complete yet: see `StatusStore.revoked_since`.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, bindparam, select
from twisted.internet.defer import Deferred

from opencertd.clock import Clock
from opencertd.model.certificates import CertificateState, Revocation, RevocationReason
from opencertd.ocsp.store import CertificateStatus, RevokedSince
from opencertd.store.database import Database
from opencertd.store.schema import certificates, revocations

_STATUSES = (
    select(certificates.c.serial, revocations.c.revoked_at, revocations.c.reason)
    .outerjoin_from(certificates, revocations, revocations.c.certificate_id == certificates.c.id)
    .where(
        certificates.c.serial.in_(bindparam("serials", expanding=True)),
        certificates.c.issuer_id == bindparam("issuer_id"),
        certificates.c.state == CertificateState.ISSUED,
    )
)
_FEED = (
    select(revocations.c.issuer_id, revocations.c.serial, revocations.c.revoked_at)
    .where(revocations.c.recorded_at >= bindparam("moment"))
    .order_by(revocations.c.recorded_at, revocations.c.certificate_id)
)


class SqlStatusStore:
    """The `StatusStore` over a `Database`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database

    def statuses(self, issuer_id: str, serials: tuple[int, ...]) -> Deferred[dict[int, CertificateStatus]]:
        def statuses(connection: Connection) -> dict[int, CertificateStatus]:
            rows = connection.execute(_STATUSES, {"issuer_id": issuer_id, "serials": list(serials)})
            return {serial: _status(serial, when, reason) for serial, when, reason in rows}

        return self._database.read(statuses)

    def revoked_since(self, moment: datetime) -> Deferred[tuple[RevokedSince, ...]]:
        def revoked_since(connection: Connection) -> tuple[RevokedSince, ...]:
            return tuple(RevokedSince(*row) for row in connection.execute(_FEED, {"moment": moment}))

        return self._database.read(revoked_since)


def _status(serial: int, revoked_at: datetime | None, reason: int | None) -> CertificateStatus:
    if revoked_at is None or reason is None:
        return CertificateStatus(serial, None)
    return CertificateStatus(serial, Revocation(revoked_at, RevocationReason(reason)))
