"""One door: every certificate is issued here, every revocation made here, whatever protocol asked.

The order of issuing is what makes it safe to crash anywhere: policy and key are checked; the certificate is put
together and linted under a throw-away key; its serial and to-be-signed bytes are stored as an intent; the issuer's
key signs them (first those of a precertificate, where logs are to know of it: `transparency`); the certificate is
stored as issued, with its audit entry; only then is it answered. An intent whose worker died is abandoned, and what it
might have become was never given to anybody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from cryptography import x509
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from opencertd.asn1 import dn
from opencertd.asn1.certificate import subject_and_key
from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.along import Along
from opencertd.issuance.alternates import alternate_chains
from opencertd.issuance.approvals import Approvals
from opencertd.issuance.audit import issuance_refused, reinstatement_refused, revocation_refused
from opencertd.issuance.existing import is_signed_by
from opencertd.issuance.issuers import Issuer, Issuers
from opencertd.issuance.key_checks import check_public_key, compromised
from opencertd.issuance.known_keys import KnownKeys
from opencertd.issuance.past import filled_in
from opencertd.issuance.pkilint_check import PkilintCheck
from opencertd.issuance.policy import check_names, check_profile_use, check_request
from opencertd.issuance.preparation import Preparation, Prepared, choose_issuer
from opencertd.issuance.profiles import Profile, Publication, normal_subject
from opencertd.issuance.revocation import reinstate, revoke
from opencertd.issuance.rules import Policies
from opencertd.issuance.signature import signed_by
from opencertd.issuance.store import CertificateStore
from opencertd.issuance.transparency import Transparency
from opencertd.keys.kinds import SubjectKey
from opencertd.model.approval import ApprovalRequest
from opencertd.model.audit import AuditEvent
from opencertd.model.certificates import (
    CertificateIntent,
    CertificateRecord,
    CertificateState,
    IssuerRole,
)
from opencertd.model.names import AltName
from opencertd.model.request import (
    IssuanceRequest,
    IssuedCertificate,
    IssuingProtocol,
    ReinstatementRequest,
    RevocationRequest,
    Transaction,
)
from opencertd.model.requester import Proof, Requester

STALE_INTENT = timedelta(seconds=60)
"""An intent older than this is of a worker that died: signing takes milliseconds."""

_JOIN_STEPS = 50
_JOIN_STEP_SECONDS = 0.1


class CertificateAuthority:
    """The core. `owner` names this worker in intents; `random` gives that many random bytes.

    `adopt` replaces issuers, profiles and policies while it runs.
    `hold`: whether certificates may be put on hold where their profile does not say; those that are can be reinstated
    in any case.
    `pkilint` looks at what clients get, after this program's own lint; None: nobody does. `transparency`: for profiles
    that want timestamps of logs; None: those issue nothing. `approvals`: for profiles that want a person's approval;
    None: those issue nothing.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        issuers: Issuers,
        profiles: Mapping[str, Profile],
        publication: Publication,
        store: CertificateStore,
        clock: Clock,
        reactor: IReactorTime,
        random: Callable[[int], bytes],
        owner: str,
        policies: Policies = Policies(),  # noqa: B008  (a frozen value)
        hold: bool = True,
        known_keys: KnownKeys = KnownKeys(),  # noqa: B008  (without lists it never changes)
        pkilint: PkilintCheck | None = None,
        transparency: Transparency | None = None,
        approvals: Approvals | None = None,
    ) -> None:
        self.approvals = approvals
        self.issuers = issuers
        self.profiles = profiles
        self.policies = policies
        self.store = store
        self.on_status_changed: list[Callable[[CertificateRecord], None]] = []
        self._hold = hold
        self._clock = clock
        self._reactor = reactor
        self._owner = owner
        self._known_keys = known_keys
        self._transparency = transparency
        self._preparation = Preparation(
            publication=publication, clock=clock, random=random, pkilint=pkilint, transparency=transparency
        )

    def adopt(self, issuers: Issuers, profiles: Mapping[str, Profile], policies: Policies) -> None:
        """Go by these from the next request on; what has begun goes on under those it began with."""
        self.issuers = issuers
        self.profiles, self.policies = profiles, policies

    def is_prompt(self, profile: str) -> bool:
        """Whether nobody is waited for between the request and its intent; after that, its asker's record tells."""
        rules = self.profiles.get(profile)
        return rules is None or (not rules.approval and self._preparation.is_prompt(rules))

    async def issue(self, request: IssuanceRequest, along: Along | None = None) -> IssuedCertificate:
        """Issue one certificate, durably stored before this returns, and said in the audit chain, as is a refusal.

        `along`: what the asker's store does in the same transactions.

        Refusals: NOT_FOUND (profile), BAD_PUBLIC_KEY, BAD_CSR, REJECTED_NAME, UNAVAILABLE (issuer, key, store, list of
        keys, pkilint or logs), PENDING (the same transaction is at work elsewhere, or nobody has approved yet),
        UNAUTHORIZED (rejected), RATE_LIMITED (too many wait for approval), INTERNAL (lint found it wrong).
        """
        try:
            prepared = await self._prepare(request)
        except Refusal as refusal:
            await self.store.record(issuance_refused(request, refusal, self._clock.now()))
            raise
        try:
            approval = await self._approval(request, prepared.draft.subject, prepared.key)
            record = await self._reserve(request, prepared, approval, along)
        except Refusal as refusal:
            await self._say_refused(refusal, issuance_refused(request, refusal, self._clock.now()))
            raise
        if record.serial == prepared.serial:
            issued = self._issued(await self._sign(prepared, record, along))
        else:
            issued = await self._join(request, record, along)
        if approval is not None and self.approvals is not None:
            await self.approvals.spend(approval, request, issued.record)
        if request.applicant_spki_der and not request.spki_der.endswith(subject_and_key(issued.certificate_der)[1]):
            raise Refusal(RefusalKind.CONFLICT, "a key was made for this request already, and is told once: ask anew")
        return issued

    async def check_approved(self, request: IssuanceRequest) -> None:
        """Raise the Refusal that `issue` would for want of approval, before a key is made for the request.

        Refusals: those of `issue` that need no key.
        """
        profile = self._profile(request.profile)
        try:
            subject = normal_subject(check_request(request, profile, self.issuers, self.policies))
            await self._approval(request, subject, None)
        except Refusal as refusal:
            await self._say_refused(refusal, issuance_refused(request, refusal, self._clock.now()))
            raise

    async def _approval(
        self, request: IssuanceRequest, subject: x509.Name, key: SubjectKey | None
    ) -> ApprovalRequest | None:
        """What approves the request; None where none is needed."""
        if not self._profile(request.profile).approval or request.requester.proof is Proof.DAEMON:
            return None
        if self.approvals is None:
            raise Refusal(RefusalKind.UNAVAILABLE, "the profile needs approval, and nobody can approve here")
        if await self.store.is_compromised(_fingerprint(request.spki_der)):
            raise compromised()  # nobody need be asked
        return await self.approvals.granted(request, subject, key)

    async def revoke(self, request: RevocationRequest) -> CertificateRecord:
        """Revoke or hold, by the rules of `revocation.revised`; a refusal is said in the audit chain as the deed is.

        Refusals: BAD_REVOCATION_REASON, MALFORMED (invalidity date), NOT_FOUND, ALREADY_REVOKED, UNAVAILABLE.
        """
        try:
            record = await revoke(self.store, request, self._now(), holds=self._holds)
        except Refusal as refusal:
            await self._say_refused(refusal, revocation_refused(request, refusal, self._clock.now()))
            raise
        return self._tell(record, f"revoked ({request.reason.rfc_name})", request.requester)

    def _holds(self, profile: str) -> bool:
        rules = self.profiles.get(profile)
        return self._hold if rules is None or rules.hold is None else rules.hold

    async def reinstate(self, request: ReinstatementRequest) -> CertificateRecord:
        """End a hold. Refusals: NOT_FOUND, CONFLICT (not on hold, or expired), ALREADY_REVOKED, UNAVAILABLE."""
        try:
            record = await reinstate(self.store, request, self._now())
        except Refusal as refusal:
            await self._say_refused(refusal, reinstatement_refused(request, refusal, self._clock.now()))
            raise
        return self._tell(record, "reinstated", request.requester)

    async def _say_refused(self, refusal: Refusal, event: AuditEvent) -> None:
        # While the store is away it cannot be written; who waits for a decision was written down when it asked.
        if refusal.kind not in {RefusalKind.UNAVAILABLE, RefusalKind.PENDING}:
            await self.store.record(event)

    def _tell(self, record: CertificateRecord, deed: str, requester: Requester) -> CertificateRecord:
        who = f"{requester.proof.value}:{requester.label}"
        self._log.info(
            "{deed} {serial:x} of {issuer} for {who}", deed=deed, serial=record.serial, issuer=record.issuer_id, who=who
        )
        for listener in self.on_status_changed:
            listener(record)
        return record

    async def recognise(self, certificate_der: bytes) -> CertificateRecord | None:
        """Our record of exactly these bytes, whatever became of the certificate; None when we did not issue it.

        Where an imported CA left no bytes to compare, the issuer's signature tells, and the certificate completes the
        record.
        """
        try:
            certificate = x509.load_der_x509_certificate(certificate_der)
            serial = certificate.serial_number
        except ValueError:
            return None
        for record in await self.store.by_serial(serial):
            if record.certificate_der == certificate_der:
                return record
            issuer = self.issuers.by_id(record.issuer_id)
            if record.certificate_der is None and issuer and is_signed_by(certificate, issuer.certificate):
                return filled_in(record, certificate)
        return None

    async def check_key(self, spki_der: bytes) -> SubjectKey:
        """The key, if it may be in a certificate. Raises BAD_PUBLIC_KEY; UNAVAILABLE when that cannot be told."""
        key = self._usable(spki_der)
        if await self.store.is_compromised(_fingerprint(spki_der)):
            raise compromised()
        return key

    def _usable(self, spki_der: bytes) -> SubjectKey:
        """What can be told of the key without the store."""
        key = check_public_key(spki_der)
        if spki_der in self.issuers.keys_der:
            raise Refusal(RefusalKind.BAD_PUBLIC_KEY, "the public key belongs to this certificate authority")
        self._known_keys.check(spki_der)
        return key

    def check_order(
        self, profile: str, names: tuple[AltName, ...], requester: Requester, protocol: IssuingProtocol
    ) -> None:
        """Raise the Refusal that a request for these names would meet, before anybody proves control of them."""
        rules = self._profile(profile)
        check_profile_use(rules, requester, protocol)
        check_names(names, rules, requester, self.policies)
        self._preparation.check_hosts(names, rules)

    def issuer_for(self, profile: str, spki_der: bytes | None) -> Issuer:
        """Who signs for that profile and key; without a key, the profile's first. Raises NOT_FOUND, UNAVAILABLE."""
        rules = self._profile(profile)
        return choose_issuer(rules, None if spki_der is None else check_public_key(spki_der), self.issuers)

    def authorities(self) -> tuple[bytes, ...]:
        """Every CA certificate that a client may need now."""
        return self.issuers.authorities_der(self._clock.now())

    def chain(self, record: CertificateRecord) -> tuple[bytes, ...]:
        """The first of `chains`."""
        return self.chains(record)[0]

    def chains(self, record: CertificateRecord) -> tuple[tuple[bytes, ...], ...]:
        """The certificate and its issuing chain, leaf first, without the root. Raises NOT_FOUND before it is issued.

        While the window of the root's rollover is open, first one that leads on to the roots before it. Those through
        cross-certificates come last.
        """
        if record.certificate_der is None:
            raise Refusal(RefusalKind.NOT_FOUND, "there is no such certificate")
        return self.chains_of(record.issuer_id, record.certificate_der)

    def chains_of(self, issuer_id: str, certificate_der: bytes) -> tuple[tuple[bytes, ...], ...]:
        """As `chains`, for a certificate that this issuer has issued."""
        issuer = self.issuers.by_id(issuer_id)
        if issuer is None:
            raise Refusal(RefusalKind.NOT_FOUND, "there is no such certificate")
        is_root = issuer.role is IssuerRole.ROOT and issuer.certificate_der == issuer.root_der
        above = () if is_root else issuer.chain_der
        chain = (certificate_der, *above)
        if not above:
            return (chain,)
        now = self._clock.now()
        bridges = self.issuers.bridges_der(issuer, now)
        # Whoever trusts an older root must not be led to the new one's own certificate first.
        links = (der for der in above if der != issuer.root_der)
        usual = ((certificate_der, *links, *bridges), chain) if bridges else (chain,)
        return (*usual, *((certificate_der, *other) for other in alternate_chains(issuer, self.issuers, now)))

    def _profile(self, name: str) -> Profile:
        profile = self.profiles.get(name)
        if profile is None:
            raise Refusal(RefusalKind.NOT_FOUND, f"there is no profile {name[:80]!r}")
        return profile

    def _now(self) -> datetime:
        return self._clock.now().replace(microsecond=0)

    async def _prepare(self, request: IssuanceRequest) -> Prepared:
        profile = self._profile(request.profile)
        key = self._usable(request.spki_der)  # whether it is known to be compromised is seen when the intent is stored
        return await self._preparation.prepare(request, key, profile, self.issuers, self.policies)

    async def _reserve(
        self, request: IssuanceRequest, prepared: Prepared, approval: ApprovalRequest | None, along: Along | None
    ) -> CertificateRecord:
        now = self._now()
        transaction = request.transaction or Transaction("")
        if approval is not None:  # which is good for one certificate
            transaction = Transaction(approval.transaction)
        intent = CertificateIntent(
            issuer_id=prepared.issuer.id,
            serial=prepared.serial,
            profile=request.profile,
            requester=f"{request.requester.proof.value}:{request.requester.id}",
            requester_label=request.requester.label,
            subject=dn.format_dn(prepared.draft.subject),
            names=request.names,
            spki_sha256=_fingerprint(request.spki_der),
            not_before=prepared.draft.not_before,
            not_after=prepared.draft.not_after,
            tbs_der=prepared.intended_der,
            owner=self._owner,
            intended_at=now,
            transaction=transaction.key or None,
        )
        stale_before = now - STALE_INTENT
        record = await self.store.reserve(
            intent, transaction.window, stale_before, unless_compromised=True, along=along
        )
        if along is not None:
            along.begun = True
        return record

    async def _sign(self, prepared: Prepared, record: CertificateRecord, along: Along | None) -> CertificateRecord:
        issuer, tbs_der = prepared.issuer, prepared.tbs_der
        try:
            if prepared.precertificate is not None and self._transparency is not None:
                tbs_der = await self._transparency.certificate(prepared.precertificate, issuer, issuer.signer, record)
            certificate_der = await signed_by(issuer.signer, tbs_der)
        except Refusal as refusal:  # a token that is away, or too few logs: said in words
            await self.store.abandon(record.id, refusal.detail)
            self._log.error("{issuer} does not sign: {why}", issuer=issuer.name, why=refusal.detail)
            raise
        except Exception as error:
            await self.store.abandon(record.id, "signing failed")
            self._log.failure("signing with {issuer} failed", issuer=issuer.name)
            raise Refusal(RefusalKind.UNAVAILABLE, "the issuing CA cannot sign at present", retry_after=60) from error
        completed = await self.store.complete(record.id, certificate_der, self._now(), along)
        if along is not None:
            along.ended = True
        self._log.info(
            "issued {serial:x} by {issuer} under {profile} to {who}: {subject} {names}",
            serial=completed.serial,
            issuer=issuer.name,
            profile=completed.profile,
            who=completed.requester_label,
            subject=completed.subject,
            names=" ".join(str(name) for name in completed.names),
        )
        return completed

    async def _join(
        self, request: IssuanceRequest, record: CertificateRecord, along: Along | None
    ) -> IssuedCertificate:
        """Somebody was first with this transaction: their certificate is the answer, as soon as it is there."""
        current: CertificateRecord | None = record
        for _ in range(_JOIN_STEPS):
            if current is None or current.state is CertificateState.ABANDONED:
                return await self.issue(request, along)
            if current.state is CertificateState.ISSUED:
                return self._issued(current)
            await deferLater(self._reactor, _JOIN_STEP_SECONDS)
            current = await self.store.by_id(record.id)
        raise Refusal(RefusalKind.PENDING, "the same request is being worked on", retry_after=2)

    def _issued(self, record: CertificateRecord) -> IssuedCertificate:
        chain = self.chain(record)
        return IssuedCertificate(record, chain[0], chain)


def _fingerprint(spki_der: bytes) -> str:
    return hashlib.sha256(spki_der).hexdigest()
