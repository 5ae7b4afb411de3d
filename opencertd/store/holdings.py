"""What each issuer has out in the world: how many certificates, until when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, case, func, select
from twisted.internet.defer import Deferred

from opencertd.model.certificates import CertificateState
from opencertd.store.database import Database
from opencertd.store.revocations import IN_FORCE, OF_CERTIFICATE
from opencertd.store.schema import certificates, issuers
from opencertd.store.status_tables import revocations


@dataclass(frozen=True)
class Holdings:
    """Certificates of one issuer that have not expired, its own OCSP responders' among them.

    `live`: those not revoked or on hold. `last_expiry`: when the last of all expires; None when there is none.
    """

    live: int
    revoked: int
    last_expiry: datetime | None


_REVOKED = func.sum(case((IN_FORCE, 1), else_=0))
_BY_ISSUER = (
    select(certificates.c.issuer_id, func.count(), _REVOKED, func.max(certificates.c.not_after))
    .select_from(certificates)
    .join(issuers, issuers.c.id == certificates.c.issuer_id)
    .outerjoin(revocations, OF_CERTIFICATE)
    .where(
        certificates.c.state == CertificateState.ISSUED,
        certificates.c.not_after > bindparam("now"),
        certificates.c.certificate_der.is_distinct_from(issuers.c.certificate_der),  # imported ones may have none
    )
    .group_by(certificates.c.issuer_id)
)


class SqlHoldings:
    """Over a `Database`. Counting takes about a second for a million certificates."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def by_issuer(self, now: datetime) -> Deferred[dict[str, Holdings]]:
        """By issuer id, those that have any; a root's own certificate does not count."""

        def count(connection: Connection) -> dict[str, Holdings]:
            rows = connection.execute(_BY_ISSUER, {"now": now.replace(microsecond=0)})
            return {issuer: Holdings(n - (revoked or 0), revoked or 0, last) for issuer, n, revoked, last in rows}

        return self._database.read(count, long=True)
