"""Precertificates in SQL: what was signed for the logs of Certificate Transparency, under an intent that still holds.

They are kept for good, whatever becomes of the intent: logs may publish them.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, bindparam, insert, select, update
from twisted.internet.defer import Deferred

from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.audit import precertified
from opencertd.model.certificates import CertificateRecord, CertificateState
from opencertd.store.audit import append
from opencertd.store.database import Database
from opencertd.store.schema import certificates, precertificates

_INTENDED = (certificates.c.id == bindparam("of_id"), certificates.c.state == CertificateState.INTENDED)
_HOLD = select(certificates.c.id).where(*_INTENDED).with_for_update()
_KEEP = insert(precertificates)
_INTEND = update(certificates).where(*_INTENDED).values(tbs_der=bindparam("intended_der"))


class SqlPrecertificateStore:
    """The `PrecertificateStore` over a `Database`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def keep_precertificate(
        self, record: CertificateRecord, precertificate_der: bytes, signed_at: datetime
    ) -> Deferred[None]:
        def keep(connection: Connection) -> None:
            if connection.execute(_HOLD, {"of_id": record.id}).one_or_none() is None:
                raise _given_up()
            row = {"certificate_id": record.id, "precertificate_der": precertificate_der, "signed_at": signed_at}
            connection.execute(_KEEP, row)
            append(connection, precertified(record, precertificate_der, self._clock.now()))

        return self._database.write(keep)

    def intend_certificate(self, record_id: int, tbs_der: bytes) -> Deferred[None]:
        def intend(connection: Connection) -> None:
            if not connection.execute(_INTEND, {"of_id": record_id, "intended_der": tbs_der}).rowcount:
                raise _given_up()

        return self._database.write(intend)


def _given_up() -> Refusal:
    return Refusal(RefusalKind.CONFLICT, "this certificate is not being issued any more")
