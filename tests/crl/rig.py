"""A `CrlServer` over stores that are lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from twisted.internet.defer import Deferred, execute, fail, succeed

from opencertd.asn1.crl import encode_entry, encode_removed_entry
from opencertd.clock import Clock, FixedClock
from opencertd.crl.server import CrlServer
from opencertd.crl.store import DELTA, Entries, Line, PublishedCrl, Scheme, Standing
from opencertd.crl.terms import CrlTerms
from opencertd.issuance.issuers import Issuers
from opencertd.jobs.store import Job
from opencertd.model.certificates import Revocation, RevocationReason
from opencertd.model.crl_parts import ALL, CAS, USERS, Part, shard_of
from tests.ocsp.pki import NOW, Ca, pki

FAR = NOW + timedelta(days=400)


@dataclass(frozen=True)
class Row:
    """A certificate that is or was revoked."""

    not_after: datetime
    serial: int
    revocation: Revocation
    is_ca: bool
    recorded: datetime

    def is_in(self, part: Part) -> bool:
        if part in (CAS, USERS):
            return self.is_ca is (part == CAS)
        return part == ALL or shard_of(self.serial, (part.shard or (1, 0))[0]) == part


class Crls:
    """A `CrlStore`. `rival` runs just before the next publication is kept, as another worker would.

    `kept`: CRLs of all certificates by issuer, in order; `lines`: all others. `revoked`: of each issuer, the
    certificates' expiry, serial, revocation, whether they are CAs, and when that was recorded.
    """

    def __init__(self) -> None:
        self.kept: dict[str, list[PublishedCrl]] = {}
        self.lines: dict[Line, list[PublishedCrl]] = {}
        self.revoked: dict[str, list[Row]] = {}
        self.released: dict[str, list[Row]] = {}
        self.held: dict[str, dict[str, tuple[str, ...]]] = {}
        self.read = self.adopted = 0
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
        is_ca: bool = False,
        recorded: datetime = NOW,
    ) -> None:
        revocation = Revocation(at.replace(microsecond=0), reason, invalidity_date)
        self.revoked.setdefault(ca.issuer.id, []).append(Row(not_after, serial, revocation, is_ca, recorded))

    def release(self, ca: Ca, serial: int, recorded: datetime) -> None:
        (row,) = [row for row in self.revoked[ca.issuer.id] if row.serial == serial]
        self.revoked[ca.issuer.id].remove(row)
        self.released.setdefault(ca.issuer.id, []).append(replace(row, recorded=recorded))

    def _of(self, line: Line) -> list[PublishedCrl]:
        if line == Line(line.issuer_id):
            return self.kept.get(line.issuer_id, [])
        return self.lines.get(line, [])

    def latest(self, line: Line) -> Deferred[PublishedCrl | None]:
        self.read += 1
        return succeed((self._of(line) or [None])[-1])

    def latest_number(self, line: Line) -> Deferred[int]:
        if self.away is not None:
            return fail(self.away)
        found = self._of(line)
        return succeed(found[-1].number if found else 0)

    def _highest(self, issuer_id: str, part: Part) -> int:
        lines = (Line(issuer_id, part), Line(issuer_id, part, delta=True))
        return max((crl.number for line in lines for crl in self._of(line)), default=0)

    def highest(self, issuer_id: str, part: Part) -> Deferred[int]:
        return fail(self.away) if self.away is not None else succeed(self._highest(issuer_id, part))

    def standing(self, issuer_id: str) -> Deferred[tuple[Standing, ...]]:
        found = [
            self.kept.get(issuer_id, []),
            *(kept for line, kept in self.lines.items() if line.issuer_id == issuer_id),
        ]
        last = [kept[-1] for kept in found if kept]
        return succeed(tuple(Standing(crl.line, crl.number, crl.this_update) for crl in last))

    def base(self, issuer_id: str, before: datetime) -> Deferred[Standing | None]:
        kept = self.kept.get(issuer_id, [])
        fit = [crl for crl in kept if crl.this_update <= before][-1:] or kept[:1]
        return succeed(Standing(fit[0].line, fit[0].number, fit[0].this_update) if fit else None)

    def entries(self, issuer_id: str, part: Part, expired_after: datetime) -> Deferred[Entries]:
        rows = sorted(self.revoked.get(issuer_id, ()), key=lambda row: row.serial)
        found = [row for row in rows if row.not_after >= expired_after and row.is_in(part)]
        return succeed(tuple(encode_entry(row.serial, row.revocation) for row in found))

    def changes(self, issuer_id: str, since: datetime, expired_after: datetime) -> Deferred[Entries]:
        revoked = [row for row in self.revoked.get(issuer_id, ()) if row.recorded >= since]
        released = [row for row in self.released.get(issuer_id, ()) if row.recorded >= since]
        return succeed(
            (
                *(encode_entry(row.serial, row.revocation) for row in revoked),
                *(encode_removed_entry(row.serial, row.revocation.revoked_at) for row in released),
            )
        )

    def unexpected(self, issuer_id: str, serials: frozenset[int], expired_after: datetime) -> Deferred[frozenset[int]]:
        rows = [row for row in self.revoked.get(issuer_id, ()) if row.not_after >= expired_after]
        return succeed(serials & {row.serial for row in rows})

    def adopt_schemes(self, issuer_id: str, schemes: tuple[Scheme, ...], wait: int) -> Deferred[tuple[Scheme, ...]]:
        self.adopted += 1
        held = self.held.setdefault(issuer_id, {})
        held.pop(DELTA, None)
        for scheme in schemes:
            held[scheme.name] = tuple(dict.fromkeys((*scheme.points, *held.get(scheme.name, ()))))
        return succeed(tuple(Scheme(name, points) for name, points in held.items()))

    def schemes(self, issuer_id: str) -> Deferred[tuple[Scheme, ...]]:
        return succeed(tuple(Scheme(name, points) for name, points in self.held.get(issuer_id, {}).items()))

    def last_expiry(self, issuer_id: str) -> Deferred[datetime | None]:
        return succeed(self.last_expiries.get(issuer_id))

    def publish(self, crl: PublishedCrl, after: int) -> Deferred[bool]:
        rival, self.rival = self.rival, None
        if rival is not None:
            rival()
        highest = self._highest(crl.issuer_id, crl.part)
        before = highest if crl.line.delta else max((kept.number for kept in self._of(crl.line)), default=0)
        if not crl.number > highest or after != before:
            return succeed(False)
        if crl.line == Line(crl.issuer_id):
            self.kept.setdefault(crl.issuer_id, []).append(crl)
        else:
            self.lines.setdefault(crl.line, []).append(crl)
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

    def __init__(
        self, clock: Clock | None = None, issuers: Issuers | None = None, terms: CrlTerms | None = None
    ) -> None:
        self.pki = pki()
        self.clock = clock or FixedClock(NOW)
        self.store = Crls()
        self.jobs = Jobs()
        self.elsewhere = 0
        self.terms = terms
        self.issuers = issuers or self.pki.issuers
        self.server, self.other = self._worker(), self._worker()

    def _worker(self) -> CrlServer:
        def elsewhere(work: Callable[[], bytes]) -> Deferred[bytes]:
            self.elsewhere += 1
            return execute(work)

        return CrlServer(
            issuers=self.issuers,
            store=self.store,
            jobs=self.jobs,
            clock=self.clock,
            elsewhere=elsewhere,
            terms=self.terms,
        )

    def job(self, ca: Ca) -> Job:
        return Job("crl", ca.issuer.id, self.clock.now(), 1, 1)
