"""Deeds on the hierarchy: issuers are made, vouched for, retired and revoked; each is whole or not done at all.

A key is kept durably before the record that names it, and dropped when the deed is known to have failed. A CA
certificate that was signed for an issuer which then did not come to be is revoked, so that nothing good remains that
nobody knows of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.asn1 import dn
from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.issuance.ca_certificates import CaSigning, CaTerms, cross_terms, valid_from
from opencertd.issuance.ceremony import HeldKey, issuer_record, record_ca_certificates
from opencertd.issuance.issuers import Issuer, Issuers
from opencertd.issuance.key_checks import check_public_key
from opencertd.issuance.key_types import NewKey
from opencertd.issuance.profiles import CertificatePolicy, Profile
from opencertd.issuance.revocation import revoke
from opencertd.issuance.standing import check_standing
from opencertd.issuance.store import CertificateStore, HierarchyStore
from opencertd.keys.kinds import PublicKey
from opencertd.keys.signer import Signer
from opencertd.model.certificates import (
    CertificateRecord,
    CrossCertificate,
    CrossKind,
    HierarchyChange,
    IssuerRecord,
    IssuerRole,
    IssuerState,
    RevocationReason,
)
from opencertd.model.request import RevocationRequest
from opencertd.model.requester import Requester


@dataclass(frozen=True)
class CaWish:
    """What a new CA is to be. `role`: whether profiles that name no issuer let it sign CAs or end entities."""

    subject: x509.Name
    role: IssuerRole
    validity: timedelta
    path_length: int | None = None
    name_constraints: x509.NameConstraints | None = None
    policies: tuple[CertificatePolicy, ...] = ()

    def terms(self, key: PublicKey, now: datetime) -> CaTerms:
        """The certificate to be, for a key."""
        begin, end = valid_from(now, self.validity)
        return CaTerms(self.subject, key, begin, end, self.path_length, self.name_constraints, self.policies)


class KeyKeeper(Protocol):
    """Where new keys of issuers are kept."""

    def make(self, name: str, wanted: NewKey) -> HeldKey:
        """A new key for the issuer of that name, durably kept. Raises StartError."""

    def drop(self, held: HeldKey) -> None:
        """Nobody will ever refer to this key."""

    def signer(self, held: HeldKey, scheme: str | None) -> Signer:
        """What signs with it."""


LoadIssuers = Callable[[], "Issuers"]
"""The issuers that there are now, those whose keys cannot be had with a signer that refuses."""


CheckRules = Callable[[tuple[IssuerRecord, ...]], None]
"""Raises StartError when profiles would contradict themselves, were there these issuers too."""


class HierarchyDeeds:
    """The deeds, done by `by`. `load` answers the issuers there are; `owner` names this process in the store.

    `check` looks at new issuers before they are kept: a daemon would not start with profiles that do not fit them.
    """

    def __init__(
        self,
        *,
        certificates: CertificateStore,
        hierarchy: HierarchyStore,
        signing: CaSigning,
        keys: KeyKeeper,
        load: LoadIssuers,
        check: CheckRules,
        clock: Clock,
        owner: str,
        by: Requester,
    ) -> None:
        self._certificates = certificates
        self._hierarchy = hierarchy
        self._signing = signing
        self._keys = keys
        self._load = load
        self._check = check
        self._clock = clock
        self._owner = owner
        self._by = by

    async def create_root(self, name: str, wish: CaWish, wanted: NewKey, scheme: str | None) -> IssuerRecord:
        """A self-signed root with a new key. Refusal CONFLICT when its name or its subject is taken."""
        self._check_new(name, wish.subject)
        held = self._keys.make(name, wanted)
        with self._dropped_unless_kept(held) as keeping:
            terms = wish.terms(held.key.public_key(), self._clock.now())
            der = await self._signing.self_sign(terms, self._keys.signer(held, scheme))
            record = _record(name, wish.role, der, held.reference, scheme=scheme)
            self._check((record,))
            keeping.begun = True
            await self._hierarchy.change(HierarchyChange("create", added=(record,)), self._by, issuer=name)
        await self.note_certificates()
        return record

    async def create_under(
        self, name: str, wish: CaWish, wanted: NewKey, scheme: str | None, parent: str
    ) -> IssuerRecord:
        """A CA with a new key under an issuer of ours. Refusals: CONFLICT, NOT_FOUND (parent), those of signing."""
        self._check_new(name, wish.subject)
        above = self._signing_issuer(parent)
        held = self._keys.make(name, wanted)
        with self._dropped_unless_kept(held) as keeping:
            terms = wish.terms(held.key.public_key(), self._clock.now())
            signed = await self._signing.sign(terms, above, by=self._by, recorded_as=wish.role.value)
            der = signed.certificate_der or b""
            record = _record(name, wish.role, der, held.reference, parent_id=above.id, scheme=scheme)
            keeping.begun = True
            await self._or_revoke(signed, HierarchyChange("create", added=(record,)), issuer=name, under=parent)
        return record

    async def sign_request(self, wish: CaWish, spki_der: bytes, parent: str) -> CertificateRecord:
        """A CA certificate for somebody else's key, whose possession was proven."""
        self._check_subject(wish.subject)
        key = check_public_key(spki_der)
        if not isinstance(key, PublicKey):
            raise Refusal(RefusalKind.BAD_PUBLIC_KEY, "a CA needs a key that signs")
        if any(issuer.signer.public_key == key for issuer in self._load().all()):
            raise Refusal(RefusalKind.BAD_PUBLIC_KEY, "the public key belongs to this certificate authority")
        terms = wish.terms(key, self._clock.now())
        above = self._signing_issuer(parent)
        return await self._signing.sign(terms, above, by=self._by, recorded_as=wish.role.value)

    async def cross(self, name: str, signer: str, validity: timedelta | None) -> CrossCertificate:
        """Another certificate for an issuer of ours, by another one of ours, until the first of the two ends.

        Refusals: NOT_FOUND, CONFLICT for an issuer over itself, those of signing.
        """
        subject, above = self.issuer(name), self._signing_issuer(signer)
        if subject.id == above.id:
            raise Refusal(RefusalKind.CONFLICT, f"the issuer {name!r} cannot vouch for itself")
        begin, end = valid_from(self._clock.now(), validity or timedelta(days=365 * 100))
        terms = cross_terms(subject.certificate, begin, min(end, subject.certificate.not_valid_after_utc))
        signed = await self._signing.sign(terms, above, by=self._by, recorded_as=CrossKind.CROSS.value)
        cross = CrossCertificate(subject.id, CrossKind.CROSS, signed.certificate_der or b"", above.id)
        await self._or_revoke(signed, HierarchyChange("cross", crossed=(cross,)), issuer=name, by_issuer=signer)
        return cross

    async def bring_cross(self, name: str, certificate: x509.Certificate) -> CrossCertificate:
        """A certificate that another CA made for an issuer of ours. Refusals: NOT_FOUND, MALFORMED, CONFLICT."""
        subject = self.issuer(name)
        own = subject.certificate
        if certificate.subject != own.subject or certificate.public_key() != own.public_key():
            raise Refusal(RefusalKind.MALFORMED, f"the certificate is not for the name and the key of {name!r}")
        der = certificate.public_bytes(Encoding.DER)
        if der == subject.certificate_der:
            raise Refusal(RefusalKind.CONFLICT, f"this is the certificate of {name!r} itself")
        cross = CrossCertificate(subject.id, CrossKind.CROSS, der)
        await self._hierarchy.change(HierarchyChange("cross", crossed=(cross,)), self._by, issuer=name)
        return cross

    async def adopt(self, name: str, reference: str, scheme: str | None, chain: tuple[bytes, ...]) -> IssuerRecord:
        """The CA whose key was made here and whose certificate another CA made: `chain`, its own first."""
        certificate = x509.load_der_x509_certificate(chain[0])
        self._check_new(name, certificate.subject)
        parent = next((i for i in self._load().all() if i.certificate_der in chain[1:2]), None)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        role = IssuerRole.ISSUING if constraints.path_length == 0 else IssuerRole.ROOT
        record = issuer_record(
            name,
            role,
            certificate,
            parent_id=parent.id if parent else None,
            parents_der=() if parent else chain[1:],
            scheme=scheme,
            key_reference=reference,
        )
        self._check((record,))
        await self._hierarchy.change(HierarchyChange("import", added=(record,)), self._by, issuer=name)
        return record

    async def retire(self, name: str) -> IssuerRecord:
        """The issuer signs no more certificates, but the status of those it signed. Refusals: NOT_FOUND, CONFLICT."""
        before = self.issuer(name).record
        if before.state is not IssuerState.ACTIVE:
            raise Refusal(RefusalKind.CONFLICT, f"the issuer {name!r} is {before.state.value} already")
        return await self._changed("retire", before, replace(before, state=IssuerState.RETIRED))

    async def revoke(self, name: str, reason: RevocationReason) -> bool:
        """The issuer's own certificate is revoked, and nothing under it is to be trusted any more.

        Answers whether an issuer of ours says so to clients; else it is for the CA that signed it to revoke it.
        Refusals: NOT_FOUND, ALREADY_REVOKED.
        """
        issuer = self.issuer(name)
        if issuer.record.state is IssuerState.REVOKED:
            raise Refusal(RefusalKind.ALREADY_REVOKED, f"the issuer {name!r} is revoked already")
        for above in self._load().all():
            for record in await self._certificates.by_serial(issuer.certificate.serial_number, above.id):
                if record.certificate_der == issuer.certificate_der:
                    await self._revoke(record, reason)  # the store then knows the issuer as revoked too
                    return above.id != issuer.id
        await self._changed("revoke", issuer.record, replace(issuer.record, state=IssuerState.REVOKED))
        return False

    async def distrust(self, name: str) -> tuple[str, ...]:
        """What the issuer and those below it signed is to be replaced; they sign no more certificates meanwhile.

        Nothing is revoked: status goes on, and so do the trust anchors. Answers the issuers that it is about.
        Refusals: NOT_FOUND, CONFLICT (distrusted already, or revoked).
        """
        issuer, issuers = self.issuer(name), self._load()
        if issuer.distrusted:
            raise Refusal(RefusalKind.CONFLICT, f"the issuer {name!r} is distrusted already")
        if issuer.revoked:
            raise Refusal(RefusalKind.CONFLICT, f"the issuer {name!r} is revoked: nothing can trust it less")
        now = self._clock.now().replace(microsecond=0)
        meant = [one.record for one in (issuer, *below(issuers, issuer)) if not (one.distrusted or one.revoked)]
        return await self._changed_together("distrust", name, meant, now)

    async def trust(self, name: str) -> tuple[str, ...]:
        """The end of a distrust: of the issuer, and of those below it that it was for. Answers which those are.

        Refusals: NOT_FOUND, CONFLICT (not distrusted, or one above it is).
        """
        issuer, issuers = self.issuer(name), self._load()
        if not issuer.distrusted:
            raise Refusal(RefusalKind.CONFLICT, f"the issuer {name!r} is not distrusted")
        above = issuers.by_id(issuer.record.parent_id or "")
        if above is not None and above.distrusted:
            raise Refusal(RefusalKind.CONFLICT, f"{above.name!r} above it is distrusted: trust that one first")
        since = issuer.record.distrusted_at
        meant = [one.record for one in (issuer, *below(issuers, issuer)) if one.record.distrusted_at == since]
        return await self._changed_together("trust", name, meant, None)

    async def _changed_together(
        self, deed: str, name: str, records: list[IssuerRecord], since: datetime | None
    ) -> tuple[str, ...]:
        changed = tuple((record, replace(record, distrusted_at=since)) for record in records)
        await self._hierarchy.change(HierarchyChange(deed, changed=changed), self._by, issuer=name)
        return tuple(record.name for record in records)

    async def forget_key(self, name: str) -> IssuerRecord:
        """The issuer's key was taken away. Refusals: NOT_FOUND, CONFLICT."""
        before = self.issuer(name).record
        if before.key_reference is None:
            raise Refusal(RefusalKind.CONFLICT, f"the key of {name!r} is not here: it was taken away already")
        return await self._changed("remove-key", before, replace(before, key_reference=None))

    async def found_key(self, name: str, reference: str) -> IssuerRecord:
        """The issuer's key is here again. Refusals: NOT_FOUND, CONFLICT."""
        before = self.issuer(name).record
        if before.key_reference is not None:
            raise Refusal(RefusalKind.CONFLICT, f"the key of {name!r} is here already")
        return await self._changed("import-key", before, replace(before, key_reference=reference))

    def issuer(self, name: str) -> Issuer:
        """The issuer of that name. Raises NOT_FOUND, which lists those there are."""
        issuers = self._load()
        found = issuers.by_name(name)
        if found is None:
            names = ", ".join(issuer.name for issuer in issuers.all()) or "there are none"
            raise Refusal(RefusalKind.NOT_FOUND, f"there is no issuer {name[:80]!r} in this CA: {names}")
        return found

    def _signing_issuer(self, name: str) -> Issuer:
        issuer = self.issuer(name)
        if not issuer.active:
            state = issuer.record.state.value
            raise Refusal(RefusalKind.UNAVAILABLE, f"the issuer {name!r} is {state}: it signs no certificates")
        check_standing(issuer, self._load(), self._clock.now())
        return issuer

    def _check_new(self, name: str, subject: x509.Name) -> None:
        if self._load().by_name(name) is not None:
            raise Refusal(RefusalKind.CONFLICT, f"there is an issuer {name!r} already")
        self._check_subject(subject)

    def _check_subject(self, subject: x509.Name) -> None:
        """Whoever builds chains by name would take one CA for the other."""
        wanted = dn.canonical(subject)
        for issuer in self._load().all():
            if dn.canonical(issuer.certificate.subject) == wanted:
                words = f"the issuer {issuer.name!r} has the name {dn.format_dn(subject)[:260]!r} already"
                raise Refusal(RefusalKind.CONFLICT, words)

    async def _changed(self, deed: str, before: IssuerRecord, after: IssuerRecord) -> IssuerRecord:
        await self._hierarchy.change(HierarchyChange(deed, changed=((before, after),)), self._by, issuer=before.name)
        return after

    async def _or_revoke(self, signed: CertificateRecord, change: HierarchyChange, **what: str) -> None:
        """Do the change that the certificate was signed for; when it is not done, the certificate is revoked."""
        try:
            self._check(change.added)
            await self._hierarchy.change(change, self._by, **what)
        except (Refusal, StartError) as error:
            if is_certain(error):
                await self._revoke(signed, RevocationReason.CESSATION_OF_OPERATION)
            raise

    @contextmanager
    def _dropped_unless_kept(self, held: HeldKey) -> Iterator[_Keeping]:
        """Drops the key when the deed fails, unless the store may have kept a record that names it."""
        keeping = _Keeping()
        try:
            yield keeping
        except BaseException as error:
            if not keeping.begun or is_certain(error):
                self._keys.drop(held)
            raise

    async def _revoke(self, record: CertificateRecord, reason: RevocationReason) -> None:
        request = RevocationRequest(record.issuer_id, record.serial, reason, self._by)
        await revoke(self._certificates, request, self._clock.now().replace(microsecond=0), holds=lambda profile: False)

    async def note_certificates(self) -> None:
        """Make sure that CA certificates which our own issuers signed are in the inventory."""
        now = self._clock.now().replace(microsecond=0)
        await record_ca_certificates(self._load(), self._certificates, self._owner, now)


@dataclass
class _Keeping:
    """Whether the store has been asked to keep a record that names the key."""

    begun: bool = False


def is_certain(error: BaseException) -> bool:
    """Whether after this error nothing was kept. A store that goes away while it commits leaves that open."""
    return isinstance(error, StartError) or (isinstance(error, Refusal) and error.kind is not RefusalKind.UNAVAILABLE)


def below(issuers: Issuers, above: Issuer) -> tuple[Issuer, ...]:
    """All issuers whose chains lead over that one; parents before their children."""
    known = {above.id}
    found = []
    for issuer in issuers.all():
        if issuer.record.parent_id in known:
            known.add(issuer.id)
            found.append(issuer)
    return tuple(found)


def left_without_issuers(
    profiles: Mapping[str, Profile], issuers: Issuers, without: tuple[Issuer, ...]
) -> tuple[str, ...]:
    """Profiles that could issue, and could no more without these issuers; not those that bear their names."""
    own = {name for issuer in without for name in (issuer.name, f"ocsp-responder:{issuer.name}")}
    gone = {issuer.id for issuer in without}

    def signers(profile: Profile) -> set[str]:
        found = (issuers.current(name) for name in (*profile.issuers, *profile.issuer_by_key.values()))
        return {issuer.id for issuer in found if issuer is not None and issuer.has_key}

    able = {name: signers(profile) for name, profile in profiles.items() if name not in own}
    return tuple(name for name, found in able.items() if found and found <= gone)


def _record(
    name: str,
    role: IssuerRole,
    der: bytes,
    reference: str,
    *,
    parent_id: str | None = None,
    scheme: str | None = None,
) -> IssuerRecord:
    identifier = hashlib.sha256(der).hexdigest()[:32]
    return IssuerRecord(identifier, name, role, der, reference, parent_id, scheme=scheme)
