"""A whole CA in memory behind one HTTP root: the real core and edges; only TLS, passwords and the disk are played."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import treq.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock as Reactor
from twisted.web.iweb import IRequest

from opencertd.asn1.dn import parse_dn
from opencertd.asn1.pkcs10 import names_of_certificate
from opencertd.ca_api.certificates import CertificatesResource, certificates_edge
from opencertd.ca_api.requests import RequestsServer
from opencertd.ca_api.resource import CaApiResource
from opencertd.ca_api.resource import edge as ca_api_edge
from opencertd.ca_api.server import CaApiServer
from opencertd.clock import FixedClock
from opencertd.errors import Refusal, RefusalKind
from opencertd.est.resource import EstResource
from opencertd.est.resource import edge as est_edge
from opencertd.est.server import EstServer
from opencertd.issuance.authority import CertificateAuthority
from opencertd.issuance.ceremony import make_authorities
from opencertd.issuance.issuers import Issuer, Issuers
from opencertd.issuance.profiles import Publication
from opencertd.issuance.shipped import shipped_profiles
from opencertd.keys.signer import SoftwareSigner
from opencertd.model.audit import AuditEvent
from opencertd.model.certificates import (
    CertificateIntent,
    CertificateRecord,
    CertificateState,
    Revocation,
    RevocationChange,
)
from opencertd.model.requester import ANY_NAME, NameGrant, Proof, Requester
from opencertd.tasks import Tasks
from opencertd.web.authentication import Authenticator
from opencertd.web.site import Root

START = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
USER = Requester(Proof.PASSWORD, "estuser", "estuser", ANY_NAME)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@functools.cache
def some_key(number: int = 0) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@functools.cache
def some_rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def new_csr(dn: str, *names: str, key: Key | None = None) -> bytes:
    """DER; an empty `dn` gives an empty subject."""
    builder = x509.CertificateSigningRequestBuilder(parse_dn(dn) if dn else x509.Name([]))
    if names:
        general = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(general, critical=False)
    return builder.sign(key or some_key(), hashes.SHA256()).public_bytes(Encoding.DER)


@functools.cache
def issuers() -> Issuers:
    def at_once(job: Callable[[], Any]) -> Deferred[Any]:
        return succeed(job())

    made = make_authorities(parse_dn("CN=Test CA"), START - timedelta(days=1))
    by_id = {authority.record.id: authority.record for authority in made}
    found = []
    for authority in made:
        record = authority.record
        root = by_id[record.parent_id] if record.parent_id else record
        signer = SoftwareSigner(authority.key, at_once)
        certificate = x509.load_der_x509_certificate(record.certificate_der)
        found.append(Issuer(record, certificate, signer, (record.certificate_der,), root.certificate_der))
    return Issuers(tuple(found))


class MemoryStore:
    """As much of a `CertificateStore` as the core and these edges ask."""

    def __init__(self) -> None:
        self.audit: list[AuditEvent] = []
        self.records: dict[int, CertificateRecord] = {}
        self.keys: dict[str, int] = {}
        self.before_complete: list[Deferred[None]] = []

    def reserve(
        self,
        intent: CertificateIntent,
        window: timedelta | None,
        stale_before: datetime,
        *,
        unless_compromised: bool = False,
        along: None = None,
    ) -> Deferred[CertificateRecord]:
        held = self.keys.get(intent.transaction or "")
        if held is not None and window is not None and self.records[held].intended_at + window > intent.intended_at:
            return succeed(self.records[held])
        fields = {f.name for f in dataclasses.fields(CertificateRecord)} & set(dataclasses.asdict(intent))
        shared = {name: getattr(intent, name) for name in fields}
        number = len(self.records) + 1
        state = CertificateState.INTENDED
        self.records[number] = CertificateRecord(
            id=number, state=state, certificate_der=None, revocation=None, **shared
        )
        if intent.transaction:
            self.keys[intent.transaction] = number
        return succeed(self.records[number])

    async def _complete(self, record_id: int, certificate_der: bytes) -> CertificateRecord:
        for gate in self.before_complete:
            await gate
        return self._put(record_id, state=CertificateState.ISSUED, certificate_der=certificate_der)

    def complete(
        self, record_id: int, certificate_der: bytes, issued_at: datetime, along: None = None
    ) -> Deferred[CertificateRecord]:
        return Deferred.fromCoroutine(self._complete(record_id, certificate_der))

    def by_serial(self, serial: int, issuer_id: str | None = None) -> Deferred[tuple[CertificateRecord, ...]]:
        return succeed(tuple(r for r in self._issued() if r.serial == serial and issuer_id in (None, r.issuer_id)))

    def by_id(self, record_id: int) -> Deferred[CertificateRecord | None]:
        return succeed(self.records.get(record_id))

    def is_compromised(self, spki_sha256: str) -> Deferred[bool]:
        return succeed(False)

    def record(self, event: AuditEvent) -> Deferred[None]:
        self.audit.append(event)
        return succeed(None)

    def revoke(
        self,
        issuer_id: str,
        serial: int,
        revocation: Revocation | None,
        by: Requester,
        *,
        replaces: Revocation | None = None,
    ) -> Deferred[CertificateRecord]:
        for record in self._issued():
            if (record.issuer_id, record.serial) == (issuer_id, serial):
                if record.revocation != replaces:
                    return fail(Refusal(RefusalKind.ALREADY_REVOKED, "the certificate is revoked already"))
                return succeed(self._put(record.id, revocation=revocation))
        return fail(Refusal(RefusalKind.NOT_FOUND, "no such certificate"))

    def release(self, issuer_id: str, serial: int, held: Revocation, by: Requester) -> Deferred[CertificateRecord]:
        return self.revoke(issuer_id, serial, None, by, replaces=held)

    def revocation_history(self, record_id: int) -> Deferred[tuple[RevocationChange, ...]]:
        return succeed(())

    def inventory(self, after_id: int, limit: int) -> Deferred[tuple[CertificateRecord, ...]]:
        return succeed(tuple(r for r in self._issued() if r.id > after_id)[:limit])

    def _issued(self) -> list[CertificateRecord]:
        return [r for r in self.records.values() if r.state is CertificateState.ISSUED]

    def _put(self, record_id: int, **changes: Any) -> CertificateRecord:
        self.records[record_id] = dataclasses.replace(self.records[record_id], **changes)
        return self.records[record_id]


class Doorkeeper(Authenticator):
    """Plays the authenticator: whoever stands in `who` is asking; nobody, when it is None."""

    def __init__(self) -> None:
        self.who: Requester | None = None

    async def authenticate(self, request: IRequest) -> Requester:
        if self.who is None:
            raise Refusal(RefusalKind.UNAUTHENTICATED, "say who you are")
        return self.who

    async def challenges(self, refusal: Refusal | None = None) -> tuple[str, ...]:
        return ('Basic realm="est"', 'Digest realm="est", nonce="1"')


class Rig:
    """`treq` asks; `door.who` is who asks. `authority`: another core than one over a `MemoryStore`."""

    def __init__(
        self,
        *,
        est: dict[str, Any] | None = None,
        api: dict[str, Any] | None = None,
        authority: CertificateAuthority | None = None,
        **resource: Any,
    ):
        self.clock = FixedClock(START)
        self.store = MemoryStore()
        self.tasks = Tasks()
        self.door = Doorkeeper()
        self.authority = authority or CertificateAuthority(
            issuers=issuers(),
            profiles=shipped_profiles(("ecdsa", "rsa"), ("ecdsa", "rsa")),
            publication=Publication(),
            store=self.store,  # type: ignore[arg-type]
            clock=self.clock,
            reactor=Reactor(),  # type: ignore[arg-type]
            random=secrets.token_bytes,
            owner="w1",
        )
        door: Any = self.door
        est_server = EstServer(authority=self.authority, tasks=self.tasks, **est or {})
        api_server = CaApiServer(authority=self.authority, clock=self.clock, tasks=self.tasks, **api or {})
        requests = RequestsServer(authority=self.authority, tasks=self.tasks)
        edges = (
            est_edge(EstResource(server=est_server, authenticator=door, **resource)),
            certificates_edge(CertificatesResource(server=api_server, clock=self.clock)),
            ca_api_edge(CaApiResource(server=api_server, requests=requests, authenticator=door)),
        )
        self.root = Root(edges)
        self.treq = treq.testing.StubTreq(self.root)
        self.plain = treq.testing.StubTreq(Root(edges, plain=True))

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[Any, bytes]:
        """The response and its whole body; `Content_Type=…` is a header."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = await self.treq.request(method, f"https://ca.test{path}", data=body, headers=named)
        return response, await response.content()


def holder(certificate: x509.Certificate, **others: Any) -> Requester:
    """Who TLS proved to hold `certificate`, as the authenticator says it."""
    der = certificate.public_bytes(Encoding.DER)
    grant = NameGrant(names=frozenset(names_of_certificate(certificate)))
    identity = hashlib.sha256(der).hexdigest()
    label = certificate.subject.rfc4514_string()
    return Requester(Proof.TLS_CERTIFICATE, identity, label, grant, certificate_der=der, **others)
