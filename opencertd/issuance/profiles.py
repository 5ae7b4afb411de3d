"""What a certificate of each profile contains; nothing gets in that the profile does not say.

A profile turns a checked request into a `CertificateBuilder`, purely (RFC 5280 §4.1, §4.2).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from opencertd.asn1 import dn, other_names
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuer
from opencertd.issuance.rules import NO_RULES, Policy, RequesterMatch
from opencertd.issuance.subjects import SubjectTemplate
from opencertd.keys.kinds import SubjectKey, kind_of
from opencertd.model.certificates import IssuerRole
from opencertd.model.crl_parts import PLACE, Partition, point
from opencertd.model.names import DEVICE_KINDS, AltName, AltNameKind
from opencertd.model.request import IssuingProtocol

CMC_RA = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.28")
"""id-kp-cmcRA (RFC 6402 §2.10): RFC 7030 §3.6.1 lets an EST client accept a server by it."""

AUDIT_CHECKPOINT = x509.ObjectIdentifier("2.25.72184614474964497928203737537095207464")
"""The purpose of keys that sign checkpoints of the audit chain: an OID of our own, from a random UUID (X.667)."""

SUBJECT_ATTRIBUTES = frozenset(
    {
        NameOID.COMMON_NAME,
        NameOID.SERIAL_NUMBER,
        NameOID.ORGANIZATION_NAME,
        NameOID.ORGANIZATIONAL_UNIT_NAME,
        NameOID.COUNTRY_NAME,
        NameOID.STATE_OR_PROVINCE_NAME,
        NameOID.LOCALITY_NAME,
        NameOID.DOMAIN_COMPONENT,
        NameOID.USER_ID,
    }
)
"""Subject attributes that a request may ask for, where a profile does not say otherwise."""

MAX_NAMES = 100
"""Names in one certificate; more make TLS handshakes that old clients cannot read."""

KEY_USAGES = {
    "digitalSignature": "digital_signature",
    "contentCommitment": "content_commitment",
    "keyEncipherment": "key_encipherment",
    "dataEncipherment": "data_encipherment",
    "keyAgreement": "key_agreement",
    "keyCertSign": "key_cert_sign",
    "cRLSign": "crl_sign",
}
"""Bits of keyUsage (RFC 5280 §4.2.1.3), and what `cryptography` calls them."""


@dataclass(frozen=True)
class Publication:
    """URLs for issued certificates: AIA (RFC 5280 §4.2.2.1) and CRL distribution points (§4.2.1.13).

    `{issuer}` in a URL stands for the issuer's name, `{part}` for the part of its certificates of which the CRL speaks,
    as `partition` has it. Nothing is invented where nothing is given.
    """

    ocsp: tuple[str, ...] = ()
    ca_issuers: tuple[str, ...] = ()
    crl: tuple[str, ...] = ()
    partition: Partition = Partition()  # noqa: RUF009  (a frozen value)

    def spreads(self, role: IssuerRole) -> bool:
        """Whether certificates of an issuer of that role differ in their distribution points."""
        return bool(self.partition.under(role).shards) and any(PLACE in url for url in self.crl)

    def points(self, issuer: Issuer, serial: int, *, ca: bool) -> tuple[str, ...]:
        """The URLs of the CRL that speaks of the certificate with that serial."""
        part = self.partition.under(issuer.role).part_of(serial, ca=ca)
        return tuple(point(url, issuer.name, part) for url in self.crl)


@dataclass(frozen=True)
class CertificatePolicy:
    """One certificate policy (RFC 5280 §4.2.1.4), and where its practice statement is."""

    oid: x509.ObjectIdentifier
    cps: str | None = None


@dataclass(frozen=True)
class Profile:
    """What a certificate may contain, who signs it and who may have it.

    `issuers`: names of issuers, in order of preference; `issuer_fits_key`: an issuer whose own key is of the same
    family as the subject's goes first; `issuer_by_key`: issuers by kind of subject key, before both. `public`: whether
    clients may name it; then `protocols` and `requesters` (none: everybody who has proven who they are) say which.
    `approval`: whether somebody must approve each request first.
    `signature_algorithms`: names of schemes, of which the first that an issuer's key has signs; none: its usual one.
    `key_types`: kinds of keys, None for all; `rsa_bits`: least and most. `pkilint`, `hold`: None as for all profiles.

    `validity_max`: the most a requester may ask, when `validity_may_be_asked` at all; None stands for `validity`.
    `backdate` allows for clients whose clocks are slow. `subject`: what the subject is made of, before what the
    request may add: `subject_attributes`; others are refused, or left out when `subject_others_dropped`.
    `names_required`: at least one name of these kinds. `key_usage`: of the words in KEY_USAGES those that the key is
    able to. `ocsp`, `ca_issuers`, `crl`: URLs instead of the authority's; `published`: whether any are put in.
    `certificate_transparency`: timestamps of how many logs it has; True: of as many as the authority requires.
    `speaks_for`: the one issuer that signs, be it retired; for what says the status of its certificates.
    `description`: for people who choose among profiles.
    """

    name: str
    issuers: tuple[str, ...]
    issuer_fits_key: bool = False
    issuer_by_key: Mapping[str, str] = field(default_factory=dict)
    public: bool = True
    protocols: frozenset[IssuingProtocol] = frozenset(IssuingProtocol)
    requesters: tuple[RequesterMatch, ...] = ()
    approval: bool = False
    signature_algorithms: tuple[str, ...] = ()
    key_types: frozenset[str] | None = None
    rsa_bits: tuple[int, int] = (2048, 8192)
    validity: timedelta = timedelta(days=90)
    validity_max: timedelta | None = None
    validity_may_be_asked: bool = False
    backdate: timedelta = timedelta(minutes=1)
    subject: SubjectTemplate | None = None
    subject_attributes: frozenset[x509.ObjectIdentifier] = SUBJECT_ATTRIBUTES
    subject_others_dropped: bool = False
    name_kinds: frozenset[AltNameKind] = frozenset(AltNameKind)
    names_required: frozenset[AltNameKind] = frozenset()
    names_max: int = MAX_NAMES
    wildcards: bool = True
    ca: bool = False
    path_length: int | None = None
    key_usage: frozenset[str] = frozenset({"digitalSignature", "keyEncipherment"})
    extended_key_usages: tuple[x509.ObjectIdentifier, ...] = (
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    )
    extended_key_usage_critical: bool = False
    certificate_policies: tuple[CertificatePolicy, ...] = ()
    must_staple: bool = False
    extensions: tuple[x509.Extension[x509.UnrecognizedExtension], ...] = ()
    ocsp_no_check: bool = False
    certificate_transparency: bool | int = False
    published: bool = True
    ocsp: tuple[str, ...] | None = None
    ca_issuers: tuple[str, ...] | None = None
    crl: tuple[str, ...] | None = None
    pkilint: str | None = None
    hold: bool | None = None
    policy: Policy = NO_RULES
    speaks_for: str | None = None
    description: str = ""

    @property
    def longest(self) -> timedelta:
        """The longest validity that a certificate may have."""
        return self.validity if self.validity_max is None else self.validity_max

    def publication(self, authority: Publication) -> Publication:
        """The URLs in its certificates: its own, else the authority's."""
        if not self.published:
            return Publication()
        return replace(
            authority,
            ocsp=authority.ocsp if self.ocsp is None else self.ocsp,
            ca_issuers=authority.ca_issuers if self.ca_issuers is None else self.ca_issuers,
            crl=authority.crl if self.crl is None else self.crl,
        )


def build(
    profile: Profile,
    issuer: Issuer,
    *,
    key: SubjectKey,
    subject: x509.Name,
    names: tuple[AltName, ...],
    serial: int,
    validity: tuple[datetime, datetime],
    publication: Publication,
) -> x509.CertificateBuilder:
    """The certificate, put together. `validity`: first and last second; `publication`: the URLs that it has."""
    builder = (
        x509.CertificateBuilder()
        .serial_number(serial)
        .issuer_name(issuer.certificate.subject)
        .subject_name(subject)
        .public_key(key)
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
        .add_extension(x509.BasicConstraints(ca=profile.ca, path_length=profile.path_length), critical=True)
        .add_extension(key_usage(profile, key), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier(issuer.subject_key_identifier, None, None), critical=False)
    )
    if names:
        general = x509.SubjectAlternativeName([general_name(name) for name in names])
        builder = builder.add_extension(general, critical=not subject.rdns)  # RFC 5280 §4.2.1.6
    points = publication.points(issuer, serial, ca=profile.ca)
    return add_publication(_optional(builder, profile), publication, issuer.name, points)


def _optional(builder: x509.CertificateBuilder, profile: Profile) -> x509.CertificateBuilder:
    """What only some profiles have."""
    if profile.extended_key_usages:
        usages = x509.ExtendedKeyUsage(profile.extended_key_usages)
        builder = builder.add_extension(usages, critical=profile.extended_key_usage_critical)
    if profile.certificate_policies:
        builder = builder.add_extension(certificate_policies(profile), critical=False)
    if profile.must_staple:
        builder = builder.add_extension(x509.TLSFeature([x509.TLSFeatureType.status_request]), critical=False)
    if profile.ocsp_no_check:
        builder = builder.add_extension(x509.OCSPNoCheck(), critical=False)
    for extension in profile.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return builder


def certificate_policies(profile: Profile) -> x509.CertificatePolicies:
    """The extension, with the CPS URI as qualifier (RFC 5280 §4.2.1.4)."""
    return x509.CertificatePolicies(
        [
            x509.PolicyInformation(policy.oid, None if policy.cps is None else [policy.cps])
            for policy in profile.certificate_policies
        ]
    )


def validity(
    profile: Profile, issuer: x509.Certificate, now: datetime, wished: timedelta | None = None
) -> tuple[datetime, datetime]:
    """First and last second (both belong to it, RFC 5280 §4.1.2.5), within the issuer's own.

    Raises UNAUTHORIZED for a wish that the profile does not grant, MALFORMED for one that makes no sense.
    """
    now = now.replace(microsecond=0)
    if not issuer.not_valid_before_utc <= now < issuer.not_valid_after_utc:
        raise Refusal(
            RefusalKind.UNAVAILABLE,
            "the issuing CA's certificate is not valid at this time: check the clock, or renew the CA",
        )
    not_before = max(now - profile.backdate, issuer.not_valid_before_utc)
    length = _length(profile, wished)
    return not_before, min(not_before + length - timedelta(seconds=1), issuer.not_valid_after_utc)


def _length(profile: Profile, wished: timedelta | None) -> timedelta:
    if wished is None:
        return profile.validity
    if not profile.validity_may_be_asked:
        raise Refusal(RefusalKind.UNAUTHORIZED, f"the profile {profile.name!r} sets the validity; it cannot be asked")
    if wished > profile.longest:
        raise Refusal(
            RefusalKind.UNAUTHORIZED, f"a validity of {wished} is asked; {profile.longest} is the profile's most"
        )
    if wished <= profile.backdate:
        raise Refusal(RefusalKind.MALFORMED, f"a validity of {wished} would be over before it begins")
    return wished


def normal_subject(subject: x509.Name) -> x509.Name:
    """The subject as certificates have it (`dn.normal`). Raises REJECTED_NAME."""
    try:
        return dn.normal(subject)
    except ValueError as error:
        raise Refusal(RefusalKind.REJECTED_NAME, f"the subject cannot be in a certificate: {error}") from None


_KEYS_ABLE = {
    # Only RSA enciphers, only EC agrees on keys; ML-KEM keys encipher keys and do nothing else (RFC 9935).
    "rsa": frozenset(KEY_USAGES) - {"keyAgreement"},
    "ecdsa": frozenset(KEY_USAGES) - {"keyEncipherment", "dataEncipherment"},
    "ml-kem": frozenset({"keyEncipherment"}),
}
_SIGNERS_ABLE = frozenset(KEY_USAGES) - {"keyEncipherment", "dataEncipherment", "keyAgreement"}


def able_usages(usages: frozenset[str], family: str) -> frozenset[str]:
    """Those of the usages that keys of a family are able to."""
    return usages & _KEYS_ABLE.get(family, _SIGNERS_ABLE)


def key_usage(profile: Profile, key: object) -> x509.KeyUsage:
    """Those of the profile's usages that the public key is able to."""
    able = able_usages(profile.key_usage, kind_of(key).family)
    bits = {parameter: word in able for word, parameter in KEY_USAGES.items()}
    return x509.KeyUsage(**bits, encipher_only=False, decipher_only=False)


def add_publication(
    builder: x509.CertificateBuilder, publication: Publication, issuer: str, points: tuple[str, ...]
) -> x509.CertificateBuilder:
    """The certificate with the URLs that the issuer of that name puts into what it signs, the CRL's being `points`.

    The distribution points are the last extension.
    """

    def uri(template: str) -> x509.UniformResourceIdentifier:
        return x509.UniformResourceIdentifier(template.replace("{issuer}", issuer))

    access = [x509.AccessDescription(AuthorityInformationAccessOID.OCSP, uri(url)) for url in publication.ocsp]
    access += [
        x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, uri(url)) for url in publication.ca_issuers
    ]
    if access:
        builder = builder.add_extension(x509.AuthorityInformationAccess(access), critical=False)
    if points:
        names = [x509.UniformResourceIdentifier(url) for url in points]
        named = x509.DistributionPoint(names, None, None, None)
        builder = builder.add_extension(x509.CRLDistributionPoints([named]), critical=False)
    return builder


def general_name(name: AltName) -> x509.GeneralName:
    """The name as it stands in subjectAltName."""
    if name.kind is AltNameKind.IP:
        return x509.IPAddress(ipaddress.ip_address(name.value))
    if name.kind is AltNameKind.DNS:
        return x509.DNSName(name.value)
    if name.kind is AltNameKind.EMAIL:
        return x509.RFC822Name(name.value)
    if name.kind in DEVICE_KINDS:
        return other_names.general_name(name)
    return x509.UniformResourceIdentifier(name.value)
