"""CA certificates: put together from their terms, and signed in the order that makes it safe to crash anywhere.

Under an issuer of ours: serial and to-be-signed bytes are stored as an intent, the issuer's key signs, the signature is
checked, the certificate is stored as issued, with its audit entry. A root signs itself: the store can know it only
once it is an issuer there (`record_ca_certificates` then puts it into the inventory).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from opencertd.asn1 import dn, signed
from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuer
from opencertd.issuance.name_constraints import check_name_constraints
from opencertd.issuance.path_length import check_path_length
from opencertd.issuance.profiles import CertificatePolicy, Publication, add_publication
from opencertd.issuance.specimen import SpecimenKeys
from opencertd.issuance.store import CertificateStore
from opencertd.keys.kinds import PublicKey, verifies
from opencertd.keys.signer import Signer
from opencertd.model.certificates import CertificateIntent, CertificateRecord
from opencertd.model.requester import Requester

BACKDATE = timedelta(minutes=10)
"""CA certificates begin a little before the first certificates under them, whose begin is set back too."""

_STALE = timedelta(seconds=60)
_NO_PUBLICATION = Publication()
CA_KEY_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True)
class CaTerms:
    """What a CA certificate is to say. Times are aware UTC, both ends belong to the validity.

    `path_length`: how many CAs may follow below it; None: as many as its issuer's chain allows. `key_identifier`: the
    subjectKeyIdentifier of the key's other certificate, None for the SHA-1 of the key (RFC 5280 §4.2.1.2 (1)).
    """

    subject: x509.Name
    public_key: PublicKey
    not_before: datetime
    not_after: datetime
    path_length: int | None = None
    name_constraints: x509.NameConstraints | None = None
    policies: tuple[CertificatePolicy, ...] = ()
    key_identifier: bytes | None = None


def valid_from(now: datetime, length: timedelta) -> tuple[datetime, datetime]:
    """First and last second of a CA certificate that is made now and is to last that long."""
    begin = now.replace(microsecond=0) - BACKDATE
    return begin, begin + length - timedelta(seconds=1)


def cross_terms(certificate: x509.Certificate, not_before: datetime, not_after: datetime) -> CaTerms:
    """The terms of another certificate for the name and the key of this CA, with the same limits as its own."""
    key = certificate.public_key()
    if not isinstance(key, PublicKey):
        raise Refusal(RefusalKind.BAD_PUBLIC_KEY, "the CA has a kind of key that is not known here")
    extensions = {extension.oid: extension.value for extension in certificate.extensions}
    basic = extensions.get(x509.BasicConstraints.oid)
    names = extensions.get(x509.NameConstraints.oid)
    identifier = extensions.get(x509.SubjectKeyIdentifier.oid)
    return CaTerms(
        subject=certificate.subject,
        public_key=key,
        not_before=not_before,
        not_after=not_after,
        path_length=basic.path_length if isinstance(basic, x509.BasicConstraints) else None,
        name_constraints=names if isinstance(names, x509.NameConstraints) else None,
        policies=_policies(extensions.get(x509.CertificatePolicies.oid)),
        key_identifier=identifier.digest if isinstance(identifier, x509.SubjectKeyIdentifier) else None,
    )


def _policies(extension: object) -> tuple[CertificatePolicy, ...]:
    if not isinstance(extension, x509.CertificatePolicies):
        return ()
    return tuple(
        CertificatePolicy(
            policy.policy_identifier,
            next((q for q in policy.policy_qualifiers or () if isinstance(q, str)), None),
        )
        for policy in extension
    )


def ca_builder(
    terms: CaTerms,
    serial: int,
    *,
    issuer: x509.Name | None = None,
    issuer_key_identifier: bytes | None = None,
) -> x509.CertificateBuilder:
    """The certificate of those terms, not signed yet; a root's when `issuer` is None (RFC 5280 §4.2.1)."""
    identifier = x509.SubjectKeyIdentifier.from_public_key(terms.public_key)
    if terms.key_identifier is not None:
        identifier = x509.SubjectKeyIdentifier(terms.key_identifier)
    builder = (
        x509.CertificateBuilder()
        .serial_number(serial)
        .subject_name(terms.subject)
        .issuer_name(terms.subject if issuer is None else issuer)
        .public_key(terms.public_key)
        .not_valid_before(terms.not_before)
        .not_valid_after(terms.not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=terms.path_length), critical=True)
        .add_extension(CA_KEY_USAGE, critical=True)
        .add_extension(identifier, critical=False)
    )
    if issuer_key_identifier is not None:
        authority = x509.AuthorityKeyIdentifier(issuer_key_identifier, None, None)
        builder = builder.add_extension(authority, critical=False)
    if terms.name_constraints is not None:
        builder = builder.add_extension(terms.name_constraints, critical=True)  # RFC 5280 §4.2.1.10
    if terms.policies:
        policies = [x509.PolicyInformation(p.oid, None if p.cps is None else [p.cps]) for p in terms.policies]
        builder = builder.add_extension(x509.CertificatePolicies(policies), critical=False)
    return builder


class CaSigning:
    """Signs CA certificates. `owner` names this process in intents; `random` gives that many random bytes.

    `publication`: the URLs that issuers put into what they sign.
    """

    def __init__(
        self,
        store: CertificateStore,
        *,
        clock: Clock,
        random: Callable[[int], bytes],
        owner: str,
        publication: Publication = _NO_PUBLICATION,
    ) -> None:
        self._store = store
        self._clock = clock
        self._random = random
        self._owner = owner
        self._publication = publication
        self._specimens = SpecimenKeys()

    async def self_sign(self, terms: CaTerms, signer: Signer) -> bytes:
        """A root's certificate, DER, signed by its own key. The store knows nothing of it yet."""
        tbs_der = self._to_be_signed(ca_builder(terms, self._serial()), signer)
        return await _signed(tbs_der, signer)

    async def sign(self, terms: CaTerms, issuer: Issuer, *, by: Requester, recorded_as: str) -> CertificateRecord:
        """A CA certificate signed by an issuer of ours, durably stored; within the issuer's own validity.

        `recorded_as`: what stands in the inventory for the profile. Refusals: UNAVAILABLE when the issuer does not
        sign (now), UNAUTHORIZED for terms that its chain does not allow.
        """
        allowed = self._allowed(terms, issuer)
        serial = self._serial()
        builder = ca_builder(
            allowed, serial, issuer=issuer.certificate.subject, issuer_key_identifier=issuer.subject_key_identifier
        )
        tbs_der = self._to_be_signed(self._published(builder, issuer, serial), issuer.signer)
        now = self._clock.now().replace(microsecond=0)
        intent = CertificateIntent(
            issuer_id=issuer.id,
            serial=serial,
            profile=recorded_as,
            requester=f"{by.proof.value}:{by.id}",
            requester_label=by.label,
            subject=dn.format_dn(allowed.subject),
            names=(),
            spki_sha256=hashlib.sha256(
                allowed.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            ).hexdigest(),
            not_before=allowed.not_before,
            not_after=allowed.not_after,
            tbs_der=tbs_der,
            owner=self._owner,
            intended_at=now,
        )
        record = await self._store.reserve(intent, None, now - _STALE)
        try:
            certificate_der = await _signed(tbs_der, issuer.signer)
        except Refusal as refusal:
            await self._store.abandon(record.id, refusal.detail)
            raise
        return await self._store.complete(record.id, certificate_der, self._clock.now().replace(microsecond=0))

    async def sign_ahead(self, terms: CaTerms, issuer: Issuer) -> bytes:
        """A certificate, DER, by an issuer that the store is yet to know, and learns of together with that issuer.

        The terms are taken as they are: OldWithNew begins before its issuer does (RFC 4210 §4.4.1).
        """
        serial = self._serial()
        builder = ca_builder(
            terms,
            serial,
            issuer=issuer.certificate.subject,
            issuer_key_identifier=issuer.subject_key_identifier,
        )
        builder = self._published(builder, issuer, serial)
        return await _signed(self._to_be_signed(builder, issuer.signer), issuer.signer)

    def _published(self, builder: x509.CertificateBuilder, issuer: Issuer, serial: int) -> x509.CertificateBuilder:
        points = self._publication.points(issuer, serial, ca=True)
        return add_publication(builder, self._publication, issuer.name, points)

    def _allowed(self, terms: CaTerms, issuer: Issuer) -> CaTerms:
        """The terms within what the issuer can give."""
        now = self._clock.now()
        own = issuer.certificate
        if not own.not_valid_before_utc <= now < own.not_valid_after_utc:
            raise Refusal(RefusalKind.UNAVAILABLE, f"the certificate of the issuer {issuer.name!r} is not valid now")
        ends = min(terms.not_after, own.not_valid_after_utc)
        if ends <= now:
            raise Refusal(RefusalKind.MALFORMED, "the certificate would be over before it begins")
        path_length = terms.path_length
        check_name_constraints(issuer.name_limits, terms.subject, (), ca=True)
        if terms.subject != own.subject:  # a self-issued certificate counts for no CA (RFC 5280 §6.1.4 (l))
            path_length = check_path_length(issuer.room_below, path_length, issuer.name)
        begins = max(terms.not_before, own.not_valid_before_utc)
        return replace(terms, not_before=begins, not_after=ends, path_length=path_length)

    def _serial(self) -> int:
        """128 random bits below a leading one: always 17 octets, always positive (RFC 5280 §4.1.2.2)."""
        return int.from_bytes(b"\x01" + self._random(16), "big")

    def _to_be_signed(self, builder: x509.CertificateBuilder, signer: Signer) -> bytes:
        return signed.split(self._specimens.sign(builder, signer))[0]


async def _signed(tbs_der: bytes, signer: Signer) -> bytes:
    """The certificate, DER. Raises Refusal UNAVAILABLE."""
    try:
        signature = await signer.sign(tbs_der)
    except Refusal:
        raise
    except Exception as error:
        raise Refusal(RefusalKind.UNAVAILABLE, "the issuing CA cannot sign at present", retry_after=60) from error
    # A faulty signature (a broken token, a flipped bit) can give the key away; nobody may see it.
    if not verifies(signer.public_key, signature, tbs_der, signer.algorithm_der):
        raise Refusal(RefusalKind.UNAVAILABLE, "the issuing CA signs wrongly: what it signed was thrown away")
    return signed.assemble(tbs_der, signer.algorithm_der, signature)
