"""A `CrlServer` over stores that are lists."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from twisted.internet.defer import Deferred, execute, fail, succeed

from opencertd.clock import Clock, FixedClock
from opencertd.crl.server import CrlServer
from opencertd.crl.store import PublishedCrl, RevokedEntry
from opencertd.issuance.issuers import Issuers
from opencertd.jobs.store import Job
from opencertd.model.certificates import Revocation, RevocationReason
from tests.ocsp.pki import NOW, Ca, pki

FAR = NOW + timedelta(days=400)


class Crls:
    """A `CrlStore`. `rival` runs just before the next publication is kept, as another worker would."""

    def __init__(self) -> None:
        self.kept: dict[str, list[PublishedCrl]] = {}
        self.revoked: dict[str, list[tuple[datetime, RevokedEntry]]] = {}
        self.read = 0
        self.away: Exception | None = None
        self.rival: Callable[[], None] | None = None
        self.last_expiries: dict[str, datetime] = {}

    def revoke(
        self,
        ca: Ca,
        serial: int,
        *,
        at: datetime = NOW,
        reason: RevocationReason = RevocationReason.KEY_COMPROMISE,
        not_after: datetime = FAR,
        invalidity_date: datetime | None = None,
    ) -> None:
        entry = RevokedEntry(serial, Revocation(at.replace(microsecond=0), reason, invalidity_date))
        self.revoked.setdefault(ca.issuer.id, []).append((not_after, entry))

    def latest(self, issuer_id: str) -> Deferred[PublishedCrl | None]:
        self.read += 1
        return succeed((self.kept.get(issuer_id) or [None])[-1])

    def latest_number(self, issuer_id: str) -> Deferred[int]:
        if self.away is not None:
            return fail(self.away)
        kept = self.kept.get(issuer_id)
        return succeed(kept[-1].number if kept else 0)

    def entries(self, issuer_id: str, expired_after: datetime) -> Deferred[tuple[RevokedEntry, ...]]:
        found = [entry for not_after, entry in self.revoked.get(issuer_id, ()) if not_after >= expired_after]
        return succeed(tuple(sorted(found, key=lambda entry: entry.serial)))

    def last_expiry(self, issuer_id: str) -> Deferred[datetime | None]:
        return succeed(self.last_expiries.get(issuer_id))

    def publish(self, crl: PublishedCrl, after: int) -> Deferred[bool]:
        rival, self.rival = self.rival, None
        if rival is not None:
            rival()
        kept = self.kept.setdefault(crl.issuer_id, [])
        if not crl.number > after == (kept[-1].number if kept else 0):
            return succeed(False)
        kept.append(crl)
        return succeed(True)


class Jobs:
    """As much of a `JobStore` as the CRL room calls."""

    def __init__(self) -> None:
        self.owed: list[tuple[str, str, datetime]] = []

    def enqueue(self, kind: str, key: str, run_at: datetime) -> Deferred[None]:
        self.owed.append((kind, key, run_at))
        return succeed(None)


class Rig:
    """Two workers, `server` and `other`, on one store."""

    def __init__(self, clock: Clock | None = None, issuers: Issuers | None = None) -> None:
        self.pki = pki()
        self.clock = clock or FixedClock(NOW)
        self.store = Crls()
        self.jobs = Jobs()
        self.elsewhere = 0
        self.issuers = issuers or self.pki.issuers
        self.server, self.other = self._worker(), self._worker()

    def _worker(self) -> CrlServer:
        def elsewhere(work: Callable[[], bytes]) -> Deferred[bytes]:
            self.elsewhere += 1
            return execute(work)

        return CrlServer(issuers=self.issuers, store=self.store, jobs=self.jobs, clock=self.clock, elsewhere=elsewhere)

    def job(self, ca: Ca) -> Job:
        return Job("crl", ca.issuer.id, self.clock.now(), 1, 1)
