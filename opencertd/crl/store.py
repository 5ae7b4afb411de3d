"""What is kept of CRLs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from twisted.internet.defer import Deferred

from opencertd.model.certificates import Revocation


@dataclass(frozen=True)
class RevokedEntry:
    """One line of a CRL."""

    serial: int
    revocation: Revocation


@dataclass(frozen=True)
class PublishedCrl:
    """A CRL as it was published. `number` is its cRLNumber."""

    issuer_id: str
    number: int
    this_update: datetime
    next_update: datetime
    crl_der: bytes


class CrlStore(Protocol):
    """CRLs by issuer, in order of their numbers."""

    def latest(self, issuer_id: str) -> Deferred[PublishedCrl | None]:
        """The CRL with the highest number."""

    def latest_number(self, issuer_id: str) -> Deferred[int]:
        """The highest number published, 0 when none was: the cheap question behind keeping `latest` in memory."""

    def entries(self, issuer_id: str, expired_after: datetime) -> Deferred[tuple[RevokedEntry, ...]]:
        """Revoked certificates of the issuer that had not expired at `expired_after`, by serial."""

    def last_expiry(self, issuer_id: str) -> Deferred[datetime | None]:
        """When the last certificate of the issuer expires, but for its own and its OCSP responders'. None: none was."""

    def publish(self, crl: PublishedCrl, after: int) -> Deferred[bool]:
        """Keep the CRL if the highest number is still `after`, and its own is higher; False when another was first.

        In the same transaction an audit entry says that the issuer's key signed it, published or not.
        """
