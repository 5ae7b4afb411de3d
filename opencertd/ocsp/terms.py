"""How this CA answers where RFC 6960 leaves a choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from opencertd.model.certificates import Revocation, RevocationReason

NEVER_ISSUED = Revocation(datetime(1970, 1, 1, tzinfo=UTC), RevocationReason.CERTIFICATE_HOLD)
"""What RFC 6960 §2.2 has said of serial numbers that nobody was given, where they are to be called revoked."""


@dataclass(frozen=True)
class OcspTerms:
    """`window`: from thisUpdate to nextUpdate, where `windows` has none for the issuer's name.

    `nonces`: echo them, else pass over them. `extended_revoke`: say revoked, not unknown, of what was never issued.
    `archive`: for how long after its expiry a certificate's revocation is told of, to be said in every answer.
    """

    window: timedelta = timedelta(hours=1)
    windows: Mapping[str, timedelta] = field(default_factory=dict)
    nonces: bool = True
    extended_revoke: bool = False
    archive: timedelta | None = None

    def window_of(self, issuer_name: str) -> timedelta:
        """From thisUpdate to nextUpdate in answers about this issuer's certificates."""
        return self.windows.get(issuer_name, self.window)

    def archive_cutoff(self, produced_at: datetime) -> datetime | None:
        """What an answer made at that time says (RFC 6960 §4.4.4)."""
        return None if self.archive is None else produced_at - self.archive


USUAL = OcspTerms()
