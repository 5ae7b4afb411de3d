"""The read path of status in SQL.

The feed of revocations (also of their ends: a released row stays) is ordered by when each was recorded, in milliseconds
of the clock of the process that did it. A row can be read only after its commit, so a moment may pass that is not
complete yet: see `StatusStore.revoked_since`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select
from twisted.internet.defer import Deferred

from opencertd.clock import Clock
from opencertd.model.certificates import CertificateState
from opencertd.ocsp.store import CertificateStatus, LiveCertificate, RevokedSince
from opencertd.store.database import Database
from opencertd.store.revocations import OF_CERTIFICATE, in_force
from opencertd.store.schema import certificates
from opencertd.store.status_tables import revocations

_FEW = 4  # serials that are looked for at once; an OCSP request may have many

_STATUSES: Select[Any] = (
    select(certificates.c.serial, revocations.c.revoked_at, revocations.c.reason, revocations.c.invalidity_date)
    .outerjoin_from(certificates, revocations, OF_CERTIFICATE)
    .where(
        certificates.c.serial.in_(bindparam("serials", expanding=True)),
        certificates.c.issuer_id == bindparam("issuer_id"),
        certificates.c.state == CertificateState.ISSUED,
    )
)
_FEED = (
    select(revocations.c.issuer_id, revocations.c.serial, revocations.c.revoked_at, revocations.c.changes)
    .where(revocations.c.recorded_at >= bindparam("moment"))
    .order_by(revocations.c.recorded_at, revocations.c.certificate_id)
)
_LIVE = (
    select(certificates.c.id, certificates.c.issuer_id, certificates.c.serial)
    .where(
        certificates.c.id > bindparam("after"),
        certificates.c.state == CertificateState.ISSUED,
        certificates.c.not_after >= bindparam("now"),
    )
    .order_by(certificates.c.id)
    .limit(bindparam("most"))
)


class SqlStatusStore:
    """The `StatusStore` over a `Database`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database

    def statuses(self, issuer_id: str, serials: tuple[int, ...]) -> Deferred[dict[int, CertificateStatus]]:
        def statuses(connection: Connection) -> dict[int, CertificateStatus]:
            rows = connection.execute(_STATUSES, {"issuer_id": issuer_id, "serials": list(serials)})
            return {row.serial: CertificateStatus(row.serial, in_force(row)) for row in rows}

        return (self._database.glance if len(serials) <= _FEW else self._database.read)(statuses)

    def live(self, after: int, most: int, now: datetime) -> Deferred[tuple[LiveCertificate, ...]]:
        asked = {"after": after, "most": most, "now": now}

        def live(connection: Connection) -> tuple[LiveCertificate, ...]:
            return tuple(LiveCertificate(*row) for row in connection.execute(_LIVE, asked))

        return self._database.read(live, long=True)

    def revoked_since(self, moment: datetime) -> Deferred[tuple[RevokedSince, ...]]:
        def revoked_since(connection: Connection) -> tuple[RevokedSince, ...]:
            return tuple(RevokedSince(*row) for row in connection.execute(_FEED, {"moment": moment}))

        return self._database.read(revoked_since)
