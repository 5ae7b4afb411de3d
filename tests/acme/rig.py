"""A whole ACME edge in memory: the real core and SQL store behind HTTP; only the network of names is played.

`Client` is a client of its own making: it signs what it is told to, right or wrong, and keeps the nonces it gets.
"""

from __future__ import annotations

import functools
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import treq.testing
from cryptography import x509
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock as Reactor

from opencertd.acme.edge import edge
from opencertd.acme.nonces import LIFETIME
from opencertd.acme.orders import OrderTerms
from opencertd.acme.renewing import Renewing
from opencertd.acme.star_store import RENEW
from opencertd.acme.store import FINALIZE, VALIDATE
from opencertd.acme.urls import Urls
from opencertd.acme.work import Work
from opencertd.asn1.dn import parse_dn
from opencertd.clock import FixedClock
from opencertd.issuance.along import Along
from opencertd.issuance.authority import CertificateAuthority
from opencertd.issuance.ceremony import make_authorities
from opencertd.issuance.issuers import Issuer, Issuers
from opencertd.issuance.profiles import Publication
from opencertd.issuance.shipped import shipped_profiles
from opencertd.jobs.scheduler import Handler, Outcome
from opencertd.jobs.store import Job
from opencertd.keys.signer import SoftwareSigner
from opencertd.model.certificates import CertificateRecord
from opencertd.model.request import IssuanceRequest, IssuedCertificate, RevocationRequest
from opencertd.store.acme import SqlAcmeStore
from opencertd.store.acme_stars import SqlStarStore
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.clean_up import SqlCleanUp
from opencertd.store.database import Database
from opencertd.store.jobs import SqlJobStore
from opencertd.tasks import Tasks
from opencertd.validation.verdict import ControlQuestion, FailedProof, ProvenUntil
from opencertd.web.site import Root
from tests.acme.signing import b64, csr_for, ec_key, jwk_of, sign

BASE = "https://ca.example/pki"
"""What clients see; the requests of the tests go to another host, as behind a proxy that takes the prefix away."""

START = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
LEASE = timedelta(seconds=60)
PATIENCE = 2.0


@functools.cache
def issuers() -> Issuers:
    made = make_authorities(parse_dn("CN=Test CA"), START - timedelta(days=1))
    records = {authority.record.id: authority.record for authority in made}
    found = []
    for authority in made:
        record = authority.record
        root = records[record.parent_id] if record.parent_id else record
        certificate = x509.load_der_x509_certificate(record.certificate_der)
        signer = SoftwareSigner(authority.key, lambda job: succeed(job()))
        found.append(Issuer(record, certificate, signer, (record.certificate_der,), root.certificate_der))
    return Issuers(tuple(found))


class WatchedAuthority(CertificateAuthority):
    """The real core, counting what is asked of it. `gate` holds every issuance up; `failures` come first."""

    gate: Deferred[None] | None = None

    def watch(self) -> None:
        self.asked: list[IssuanceRequest] = []
        self.revoked: list[RevocationRequest] = []
        self.failures: list[Exception] = []

    def is_prompt(self, profile: str) -> bool:
        return self.gate is None and super().is_prompt(profile)

    async def issue(self, request: IssuanceRequest, along: Along | None = None) -> IssuedCertificate:
        self.asked.append(request)
        if self.gate is not None:
            opened: Deferred[None] = Deferred()
            self.gate.addCallback(lambda _: opened.callback(None))
            await opened
        if self.failures:
            raise self.failures.pop(0)
        return await super().issue(request, along)

    async def revoke(self, request: RevocationRequest) -> CertificateRecord:
        self.revoked.append(request)
        return await super().revoke(request)


class PlayedValidator:
    """Every name is controlled but those in `verdicts`."""

    def __init__(self) -> None:
        self.asked: list[ControlQuestion] = []
        self.verdicts: dict[str, FailedProof | ProvenUntil] = {}
        self.caa_asked: list[ControlQuestion] = []
        self.caa: dict[str, FailedProof] = {}

    async def validate(self, question: ControlQuestion) -> FailedProof | ProvenUntil | None:
        self.asked.append(question)
        return self.verdicts.get(question.name.value)

    async def check_caa(self, question: ControlQuestion) -> FailedProof | None:
        self.caa_asked.append(question)
        return self.caa.get(question.name.value)


class Rig:
    """One worker. `kicks` counts calls of the scheduler; `work_off` does what is owed."""

    def __init__(
        self,
        *,
        database: Database | None = None,
        find: Any = None,
        clock: FixedClock | None = None,
        validator: PlayedValidator | None = None,
        owner: str = "w1",
        work: Callable[..., Work] = Work,
        **options: Any,
    ) -> None:
        """`database`: that of another worker. `find`: how this one finds external account keys. `work`: its class."""
        self.clock = clock or FixedClock(START)
        self.reactor = Reactor()
        self.tasks = Tasks()
        shared = database is not None
        self.database = database = database or Database.in_memory()
        certificates = SqlCertificateStore(database, self.clock)
        if not shared:
            certificates.add_issuers(tuple(issuer.record for issuer in issuers().all()))
        self.store = SqlAcmeStore(database, self.clock)
        self.stars = SqlStarStore(database, self.clock)
        if find is not None:
            self.store.eab_key = find  # type: ignore[method-assign]
        self.jobs = SqlJobStore(database, self.clock)
        self.clean_up = SqlCleanUp(database)
        self.validator = validator or PlayedValidator()
        self.kicks = 0
        self.hands_free = False
        self.endings: dict[str, Deferred[None]] = {}
        self.taken_on: list[Job] = []
        reactor: Any = self.reactor
        self.authority = WatchedAuthority(
            issuers=issuers(),
            profiles=shipped_profiles(("ecdsa", "rsa"), ("ecdsa", "rsa")),
            publication=Publication(),
            store=certificates,
            clock=self.clock,
            reactor=reactor,
            random=secrets.token_bytes,
            owner=owner,
        )
        self.authority.watch()
        validator: Any = self.validator
        self.work = work(
            store=self.store,
            authority=self.authority,
            validator=validator,
            clock=self.clock,
            account_url=Urls(BASE).account,
            stars=self.stars,
        )
        self.renewing = Renewing(self.store, self.stars, self.work, self.authority, self.clock)
        self.edge = edge(
            store=self.store,
            stars=self.stars,
            authority=self.authority,
            work=self.work,
            clock=self.clock,
            random=secrets.token_bytes,
            base_url=BASE,
            tasks=self.tasks,
            reactor=reactor,
            hands=self,
            owner=owner,
            lease=LEASE,
            patience=PATIENCE,
            **{"terms": OrderTerms("default"), "nonce_key": bytes(32), **options},
        )
        self.treq = treq.testing.StubTreq(Root((self.edge,)))

    @property
    def free(self) -> bool:
        """Never: validations are left to `work_off`, unless a test has set `hands_free`."""
        return self.hands_free

    def take_on(self, job: Job) -> None:
        self.taken_on.append(job)

    def ending(self, key: str) -> Deferred[None] | None:
        """Of a challenge that a test says is being looked at."""
        return self.endings.get(key)

    def kick(self) -> None:
        self.kicks += 1

    async def work_off(self, owner: str = "w2") -> int:
        """Do what is due now; answers how many jobs that was."""
        handlers: dict[str, Handler] = {
            VALIDATE: self.work.validate,
            FINALIZE: self.work.finalize,
            RENEW: self.renewing.renew,
        }
        found = await self.jobs.claim(tuple(handlers), owner, self.clock.now(), LEASE, 100)
        for job in found:
            later = await handlers[job.kind](job)
            if later is None:
                await self.jobs.finish(job, owner)
            elif later is not Outcome.FORGOTTEN:
                await self.jobs.postpone(job, owner, later)
        return len(found)


@dataclass(frozen=True)
class Reply:
    """An answer: status, headers by lower-case name, body, and the document when it is JSON."""

    status: int
    headers: dict[str, list[str]]
    body: bytes
    length: Any  # what Content-Length said; treq keeps the header for itself

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def location(self) -> str:
        return self.headers["location"][0]

    @property
    def problem(self) -> str:
        """`badNonce`, … ; empty when the answer is no problem."""
        if self.headers.get("content-type") != ["application/problem+json"]:
            return ""
        assert self.json["status"] == self.status
        return str(self.json["type"]).removeprefix("urn:ietf:params:acme:error:")


async def ask(
    rig: Rig, method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> Reply:
    """One request to where `url` leads behind the proxy."""
    target = "http://backend.internal" + url.removeprefix(BASE)
    response = await rig.treq.request(method, target, data=body, headers=headers or {})
    found = {
        name.decode().lower(): [value.decode() for value in values]
        for name, values in response.headers.getAllRawHeaders()
    }
    return Reply(response.code, found, await response.content(), response.length)


class Client:
    """Holds a key, the URL of its account once it has one, and the newest nonce."""

    def __init__(self, rig: Rig, key: Any = None) -> None:
        self.rig = rig
        self.key = key or ec_key()
        self.kid: str | None = None
        self.nonce: str | None = None
        self.nonce_from = START

    async def fresh_nonce(self) -> str:
        if self.nonce is None or self.rig.clock.now() >= self.nonce_from + LIFETIME:
            self.nonce = (await ask(self.rig, "HEAD", f"{BASE}/new-nonce")).headers["replay-nonce"][0]
        nonce, self.nonce = self.nonce, None
        return nonce

    async def signed(self, url: str, /, payload: Any = None, *, by_key: bool = False, **header: Any) -> bytes:
        """The body of a request. `payload` None: POST-as-GET. Members of `header` replace those it would have."""
        identity = {"kid": self.kid} if self.kid and not by_key else {"jwk": jwk_of(self.key)}
        if "nonce" not in header:
            header["nonce"] = await self.fresh_nonce()
        data = payload if isinstance(payload, bytes) else b"" if payload is None else json.dumps(payload).encode()
        return json.dumps(sign(self.key, {**identity, "url": url, **header}, data)).encode()

    async def send(self, url: str, body: bytes) -> Reply:
        reply = await ask(self.rig, "POST", url, body, {"Content-Type": "application/jose+json"})
        check_manners(reply)
        self.nonce = reply.headers["replay-nonce"][0]
        self.nonce_from = self.rig.clock.now()
        return reply

    async def post(self, url: str, /, payload: Any = None, **options: Any) -> Reply:
        url = url if url.startswith("https:") else BASE + url
        return await self.send(url, await self.signed(url, payload, **options))

    async def register(self, **members: Any) -> Reply:
        reply = await self.post("/new-account", {"termsOfServiceAgreed": True, **members}, by_key=True)
        if reply.status in {200, 201}:
            self.kid = reply.location
        return reply

    async def order(self, *names: str, url: str = "/new-order", **members: Any) -> Reply:
        identifiers = [{"type": "dns", "value": name} for name in names]
        return await self.post(url, {"identifiers": identifiers, **members})

    async def prove(self, order: Reply, kind: str = "dns-01") -> None:
        """Answer a challenge of each authorization and have them validated."""
        for url in order.json["authorizations"]:
            for challenge in (await self.post(url)).json["challenges"]:
                if challenge["type"] == kind:
                    await self.post(challenge["url"], {})
        await self.rig.work_off()

    async def ready(self, *names: str) -> Reply:
        """An order that is ready to finalize."""
        if self.kid is None:
            await self.register()
        order = await self.order(*names)
        await self.prove(order)
        return order

    async def finalize(self, order: Reply, csr: bytes) -> Reply:
        return await self.post(order.json["finalize"], {"csr": b64(csr)})

    async def certificate(self, *names: str, key: Any = None) -> tuple[Reply, bytes]:
        """A whole flow: the finalized order, and the PEM chain."""
        order = await self.ready(*names)
        final = await self.finalize(order, csr_for(key or ec_key(), *names))
        assert final.json["status"] == "valid", final.body
        return final, (await self.post(final.json["certificate"])).body


def check_manners(reply: Reply) -> None:
    """What holds for every answer to a POST (RFC 8555 §6.5, §7.1)."""
    assert len(reply.headers["replay-nonce"]) == 1
    assert f'<{BASE}/directory>;rel="index"' in reply.headers["link"]
    assert reply.length == len(reply.body)
    if reply.status >= 400:
        assert reply.problem
    assert not re.search(rb"[\[:,]\s*null\b", reply.body)  # as a value: tokens may spell it
