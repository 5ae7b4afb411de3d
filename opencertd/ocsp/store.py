"""What OCSP asks of the store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from twisted.internet.defer import Deferred

from opencertd.model.certificates import Revocation


@dataclass(frozen=True)
class CertificateStatus:
    """That a certificate was issued, and whether it is revoked or on hold. Not issued: there is no status."""

    serial: int
    revocation: Revocation | None


@dataclass(frozen=True)
class RevokedSince:
    """A changed revocation in the feed that lets every worker drop its prepared answers.

    `change` counts the changes of one certificate: held is 1, and released then 2.
    """

    issuer_id: str
    serial: int
    revoked_at: datetime
    change: int = 1


@dataclass(frozen=True)
class LiveCertificate:
    """A certificate that was issued and has not expired. `id`: its place in the order of `StatusStore.live`."""

    id: int
    issuer_id: str
    serial: int


class StatusStore(Protocol):
    """The read path of status."""

    def live(self, after: int, most: int, now: datetime) -> Deferred[tuple[LiveCertificate, ...]]:
        """The next certificates, `most` at most, after the place `after`: issued, revoked or not, and not expired."""

    def statuses(self, issuer_id: str, serials: tuple[int, ...]) -> Deferred[dict[int, CertificateStatus]]:
        """Status by serial of those that the issuer has ISSUED; others are absent."""

    def revoked_since(self, moment: datetime) -> Deferred[tuple[RevokedSince, ...]]:
        """Every revocation, hold and release recorded at or after `moment`, oldest first; the latest of each
        certificate.

        A row can be read only when its transaction has ended, some seconds after its time at worst, and the clocks of
        several nodes differ a little. Whoever follows the feed therefore asks from 10 seconds before the time of its
        last question, and takes it in its stride that it is told again of what it knows.
        """
