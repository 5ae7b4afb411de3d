"""What a certificate of each profile contains; nothing gets in that the profile does not say.

A profile turns a checked request into a `CertificateBuilder`, purely (RFC 5280 §4.1, §4.2).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from opencertd.asn1 import dn
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuer
from opencertd.keys.kinds import SubjectKey, kind_of
from opencertd.model.names import AltName, AltNameKind

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
"""Subject attributes that a request may ask for."""


@dataclass(frozen=True)
class Publication:
    """URLs for issued certificates: AIA (RFC 5280 §4.2.2.1) and CRL distribution points (§4.2.1.13).

    `{issuer}` in a URL stands for the issuer's name. Nothing is invented where nothing is given.
    """

    ocsp: tuple[str, ...] = ()
    ca_issuers: tuple[str, ...] = ()
    crl: tuple[str, ...] = ()


@dataclass(frozen=True)
class Profile:
    """What a certificate may contain and who signs it.

    `issuers`: names of issuers, in order of preference; `issuer_fits_key`: an issuer whose own key is of the same
    family as the subject's goes first (of ML-DSA for an ML-KEM key). `public`: whether clients may name it.
    `backdate` allows for clients whose clocks are slow.
    """

    name: str
    issuers: tuple[str, ...]
    issuer_fits_key: bool = False
    public: bool = True
    validity: timedelta = timedelta(days=90)
    backdate: timedelta = timedelta(minutes=1)
    extended_key_usages: tuple[x509.ObjectIdentifier, ...] = (
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    )
    name_kinds: frozenset[AltNameKind] = frozenset(AltNameKind)
    key_encipherment: bool = True  # for RSA keys: key transport of TLS 1.2
    ocsp_no_check: bool = False
    published: bool = True  # whether AIA and CRL distribution points are put in


@dataclass(frozen=True)
class Draft:
    """A certificate about to be: its builder and what the record will say."""

    builder: x509.CertificateBuilder
    subject: x509.Name
    not_before: datetime
    not_after: datetime


def shipped_profiles(issuing: tuple[str, ...], everybody: tuple[str, ...]) -> Mapping[str, Profile]:
    """The profiles there are: `default`, one named as each issuing CA, and the daemon's own.

    `issuing`: names of the issuing CAs in order of preference; `everybody`: names of all issuers, roots included,
    each of which has an OCSP responder.
    """
    tls = Profile(
        "daemon-tls",
        issuing,
        issuer_fits_key=True,
        public=False,
        extended_key_usages=(ExtendedKeyUsageOID.SERVER_AUTH, CMC_RA),
        name_kinds=frozenset({AltNameKind.DNS, AltNameKind.IP}),
    )
    default = Profile("default", issuing, issuer_fits_key=True)
    named = (Profile(name, (name,)) for name in issuing)
    responders = (responder_profile(name) for name in everybody)
    return {profile.name: profile for profile in (default, *named, tls, audit_profile(issuing), *responders)}


def audit_profile(issuing: tuple[str, ...]) -> Profile:
    """The profile of the keys that sign checkpoints of the audit chain, and nothing else."""
    return Profile(
        "audit-checkpoint",
        issuing,
        issuer_fits_key=True,
        public=False,
        validity=timedelta(days=365),
        extended_key_usages=(AUDIT_CHECKPOINT,),
        key_encipherment=False,
    )


def responder_profile(issuer: str) -> Profile:
    """The profile of one issuer's delegated OCSP responder (RFC 6960 §4.2.2.2), which nobody asks the status of."""
    return Profile(
        f"ocsp-responder:{issuer}",
        (issuer,),
        public=False,
        validity=timedelta(days=30),
        extended_key_usages=(ExtendedKeyUsageOID.OCSP_SIGNING,),
        key_encipherment=False,
        ocsp_no_check=True,
        published=False,
    )


def draft(
    profile: Profile,
    issuer: Issuer,
    *,
    key: SubjectKey,
    subject: x509.Name,
    names: tuple[AltName, ...],
    serial: int,
    now: datetime,
    publication: Publication,
) -> Draft:
    """Put the certificate together. Raises UNAVAILABLE when the issuer's own certificate is not valid now."""
    not_before, not_after = validity(profile, issuer.certificate, now)
    clean_subject = _clean(subject)
    builder = (
        x509.CertificateBuilder()
        .serial_number(serial)
        .issuer_name(issuer.certificate.subject)
        .subject_name(clean_subject)
        .public_key(key)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(profile, key), critical=True)
        .add_extension(x509.ExtendedKeyUsage(profile.extended_key_usages), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier(issuer.subject_key_identifier, None, None), critical=False)
    )
    if names:
        general = x509.SubjectAlternativeName([general_name(name) for name in names])
        builder = builder.add_extension(general, critical=not clean_subject.rdns)  # RFC 5280 §4.2.1.6
    if profile.ocsp_no_check:
        builder = builder.add_extension(x509.OCSPNoCheck(), critical=False)
    if profile.published:
        builder = _published(builder, publication, issuer.name)
    return Draft(builder, clean_subject, not_before, not_after)


def validity(profile: Profile, issuer: x509.Certificate, now: datetime) -> tuple[datetime, datetime]:
    """First and last second (both belong to it, RFC 5280 §4.1.2.5), within the issuer's own."""
    now = now.replace(microsecond=0)
    if not issuer.not_valid_before_utc <= now < issuer.not_valid_after_utc:
        raise Refusal(
            RefusalKind.UNAVAILABLE,
            "the issuing CA's certificate is not valid at this time: check the clock, or renew the CA",
        )
    not_before = max(now - profile.backdate, issuer.not_valid_before_utc)
    not_after = min(not_before + profile.validity - timedelta(seconds=1), issuer.not_valid_after_utc)
    return not_before, not_after


def _clean(subject: x509.Name) -> x509.Name:
    try:
        return dn.normal(subject)
    except ValueError as error:
        raise Refusal(RefusalKind.REJECTED_NAME, f"the subject cannot be in a certificate: {error}") from None


def _key_usage(profile: Profile, key: SubjectKey) -> x509.KeyUsage:
    """What the key may be used for: signatures, RSA for key transport too where the profile says so.

    ML-DSA keys never encipher (RFC 9881 §5), ML-KEM keys do nothing else (RFC 9935).
    """
    family = kind_of(key).family
    return x509.KeyUsage(
        digital_signature=family != "ml-kem",
        key_encipherment=family == "ml-kem" or (family == "rsa" and profile.key_encipherment),
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _published(builder: x509.CertificateBuilder, publication: Publication, issuer: str) -> x509.CertificateBuilder:
    def uri(template: str) -> x509.UniformResourceIdentifier:
        return x509.UniformResourceIdentifier(template.replace("{issuer}", issuer))

    access = [x509.AccessDescription(AuthorityInformationAccessOID.OCSP, uri(url)) for url in publication.ocsp]
    access += [
        x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, uri(url)) for url in publication.ca_issuers
    ]
    if access:
        builder = builder.add_extension(x509.AuthorityInformationAccess(access), critical=False)
    if publication.crl:
        point = x509.DistributionPoint([uri(url) for url in publication.crl], None, None, None)
        builder = builder.add_extension(x509.CRLDistributionPoints([point]), critical=False)
    return builder


def general_name(name: AltName) -> x509.GeneralName:
    """The name as it stands in subjectAltName."""
    if name.kind is AltNameKind.IP:
        return x509.IPAddress(ipaddress.ip_address(name.value))
    if name.kind is AltNameKind.DNS:
        return x509.DNSName(name.value)
    if name.kind is AltNameKind.EMAIL:
        return x509.RFC822Name(name.value)
    return x509.UniformResourceIdentifier(name.value)
