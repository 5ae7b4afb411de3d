"""An `OcspServer` over a store that is a dictionary, and what looks at its answers."""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as peer
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock as Reactor

from opencertd.asn1 import der, ocsp
from opencertd.clock import FixedClock
from opencertd.issuance.issuers import Issuer
from opencertd.model.certificates import Revocation, RevocationReason
from opencertd.ocsp.responder import Responder, ResponderKeeper
from opencertd.ocsp.server import OcspServer
from opencertd.ocsp.store import CertificateStatus, LiveCertificate, RevokedSince
from opencertd.tasks import Tasks
from tests.ocsp.pki import NOW, Ca, Pki, build_certificate, pki, signer

OIDS = {
    "md5": "1.2.840.113549.2.5",
    "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}


def build_cert_id(issuer: Issuer, serial: int, hash_name: str = "sha1") -> bytes:
    name_hash, key_hash = ocsp.hash_issuer(issuer.certificate_der, "sha1" if hash_name == "md5" else hash_name)
    algorithm = der.sequence(der.oid(OIDS[hash_name]), der.null())
    return der.sequence(algorithm, der.octet_string(name_hash), der.octet_string(key_hash), der.integer(serial))


def build_request(*cert_ids: bytes, nonce: bytes | None = None) -> bytes:
    extensions = b""
    if nonce is not None:
        value = der.octet_string(der.octet_string(nonce))
        extension = der.sequence(der.oid("1.3.6.1.5.5.7.48.1.2"), value)
        extensions = der.explicit(2, der.sequence(extension))
    requests = der.sequence(*(der.sequence(cert_id) for cert_id in cert_ids))
    return der.sequence(der.sequence(requests, extensions))


def obtain_responder(ca: Ca, not_before: datetime, not_after: datetime) -> Responder:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = build_certificate(
        "OCSP responder",
        key.public_key(),
        ca.certificate.subject,
        ca.key,
        responder=True,
        not_before=not_before.replace(microsecond=0),
        not_after=not_after.replace(microsecond=0),
    )
    return Responder.of(certificate.public_bytes(Encoding.DER), signer(key))


class Statuses:
    """A `StatusStore`; `held` makes it answer only when its Deferred fires, `away` not at all."""

    def __init__(self) -> None:
        self.issued: dict[str, dict[int, Revocation | None]] = {}
        self.feed: list[tuple[datetime, RevokedSince]] = []
        self.asked: list[tuple[int, ...]] = []
        self.polled: list[datetime] = []
        self.held: Deferred[None] | None = None
        self.away: Exception | None = None

    def issue(self, ca: Ca, serial: int) -> None:
        self.issued.setdefault(ca.issuer.id, {})[serial] = None

    def revoke(self, ca: Ca, serial: int, revocation: Revocation, recorded_at: datetime | None = None) -> None:
        self.issued[ca.issuer.id][serial] = revocation
        entry = RevokedSince(ca.issuer.id, serial, revocation.revoked_at, self._next_change(ca, serial))
        self.feed.append((recorded_at or revocation.revoked_at, entry))

    def release(self, ca: Ca, serial: int, revoked_at: datetime, recorded_at: datetime) -> None:
        self.issued[ca.issuer.id][serial] = None
        entry = RevokedSince(ca.issuer.id, serial, revoked_at, self._next_change(ca, serial))
        self.feed.append((recorded_at, entry))

    def _next_change(self, ca: Ca, serial: int) -> int:
        known = [entry for _, entry in self.feed if (entry.issuer_id, entry.serial) == (ca.issuer.id, serial)]
        return len(known) + 1

    def statuses(self, issuer_id: str, serials: tuple[int, ...]) -> Deferred[dict[int, CertificateStatus]]:
        self.asked.append(serials)
        if self.away is not None:
            return fail(self.away)
        known = self.issued.get(issuer_id, {})
        found = {serial: CertificateStatus(serial, known[serial]) for serial in serials if serial in known}
        if self.held is None:
            return succeed(found)
        return self.held.addCallback(lambda _: found)  # what was read before it was held

    def live(self, after: int, most: int, now: datetime) -> Deferred[tuple[LiveCertificate, ...]]:
        if self.away is not None:
            return fail(self.away)
        every = [(issuer_id, serial) for issuer_id, known in self.issued.items() for serial in known]
        places = enumerate(every, start=1)
        return succeed(tuple(LiveCertificate(place, *one) for place, one in places if place > after)[:most])

    def revoked_since(self, moment: datetime) -> Deferred[tuple[RevokedSince, ...]]:
        self.polled.append(moment)
        if self.away is not None:
            return fail(self.away)
        return succeed(tuple(entry for recorded_at, entry in self.feed if recorded_at >= moment))


class Rig:
    """The server with everything it needs, and the three issuers' certificates 1 to 9 issued."""

    def __init__(self, clock: FixedClock | None = None, **options: object) -> None:
        self.pki: Pki = pki()
        self.clock = clock or FixedClock(NOW)
        self.reactor = Reactor()
        self.tasks = Tasks()
        self.store = Statuses()
        self.obtained: list[str] = []
        self.life = timedelta(days=30)
        self.no_responder: Exception | None = None
        for ca in (self.pki.root, self.pki.ecdsa, self.pki.rsa):
            for serial in range(1, 10):
                self.store.issue(ca, serial)
        self.keeper = ResponderKeeper(self.obtain, clock=self.clock, tasks=self.tasks)
        self.server = OcspServer(
            issuers=self.pki.issuers,
            store=self.store,
            keeper=self.keeper,
            clock=self.clock,
            reactor=self.reactor,
            **options,
        )

    async def obtain(self, issuer: Issuer) -> Responder:
        self.obtained.append(issuer.name)
        if self.no_responder is not None:
            raise self.no_responder
        return obtain_responder(self.pki.ca_of(issuer), self.clock.now(), self.clock.now() + self.life)

    def request(
        self, *serials: int, hash_name: str = "sha1", ca: Ca | None = None, nonce: bytes | None = None
    ) -> bytes:
        issuer = (ca or self.pki.ecdsa).issuer
        return build_request(*(build_cert_id(issuer, serial, hash_name) for serial in serials), nonce=nonce)

    async def ask(self, *serials: int, **options: object) -> peer.OCSPResponse:
        answer = await self.server.answer(self.request(*serials, **options))
        return peer.load_der_ocsp_response(answer.body)

    def revoke(self, serial: int, ca: Ca | None = None) -> Revocation:
        revocation = Revocation(self.clock.now().replace(microsecond=0), RevocationReason.KEY_COMPROMISE)
        self.store.revoke(ca or self.pki.ecdsa, serial, revocation, recorded_at=self.clock.now())
        return revocation

    def pass_time(self, step: timedelta) -> None:
        """Both clocks move."""
        self.clock.advance(step)
        self.reactor.advance(step.total_seconds())
