"""The profiles there are without any settings; `etc/opencertd.toml` tells what each is for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from opencertd.issuance.profiles import AUDIT_CHECKPOINT, CMC_RA, SUBJECT_ATTRIBUTES, Profile
from opencertd.issuance.rules import RequesterMatch
from opencertd.model.names import AltNameKind
from opencertd.model.request import IssuingProtocol
from opencertd.model.requester import REGISTRATION_AUTHORITY

OPERATORS = (RequesterMatch(role="operator"),)
"""Who may have certificates that others trust for more than their own name."""

DOCUMENT_SIGNING = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")
"""id-kp-documentSigning (RFC 9336)."""

_YEAR = timedelta(days=365)
_SIGNS = frozenset({"digitalSignature"})
_HOSTS = frozenset({AltNameKind.DNS, AltNameKind.IP})
_NOBODY: frozenset[AltNameKind] = frozenset()
_BY_REQUEST = frozenset({IssuingProtocol.EST, IssuingProtocol.CA_API})
"""ACME proves control of host names, and of nothing else."""


def shipped_profiles(
    issuing: tuple[str, ...], everybody: tuple[str, ...], roots: tuple[str, ...] | None = None
) -> Mapping[str, Profile]:
    """The profiles there are: `default`, one named as each issuing CA, those for one use, and the daemon's own.

    `issuing`: names of the issuing CAs in order of preference; a name stands for those too who take its bearer's place.
    `everybody`: names of all issuers, each of which has an OCSP responder; `roots`: those that sign sub CAs, None for
    whoever is not issuing.
    """
    if roots is None:
        roots = tuple(name for name in everybody if name not in issuing)
    tls = Profile(
        "daemon-tls",
        issuing,
        issuer_fits_key=True,
        public=False,
        extended_key_usages=(ExtendedKeyUsageOID.SERVER_AUTH, CMC_RA),
        name_kinds=_HOSTS,
    )
    default = Profile("default", issuing, issuer_fits_key=True)
    named = (Profile(name, (name,)) for name in issuing)
    uses = (*_for_tls(issuing), *_for_signing(issuing), registration_authority(issuing))
    uses += _for_authorities(issuing, roots)
    responders = (responder_profile(name) for name in everybody)
    return {profile.name: profile for profile in (default, *uses, *named, tls, audit_profile(issuing), *responders)}


def _for_tls(issuing: tuple[str, ...]) -> tuple[Profile, ...]:
    server, client = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH

    def host(name: str, *usages: x509.ObjectIdentifier) -> Profile:
        return Profile(
            name,
            issuing,
            issuer_fits_key=True,
            name_kinds=_HOSTS,
            names_required=_HOSTS,
            extended_key_usages=usages,
        )

    return (
        host("tls-server", server),
        host("tls-server-client", server, client),
        Profile(
            "short-lived",
            issuing,
            issuer_fits_key=True,
            name_kinds=_HOSTS,
            names_required=_HOSTS,
            validity=timedelta(days=1),
            validity_max=timedelta(days=7),
            validity_may_be_asked=True,
        ),
        Profile("tls-client", issuing, issuer_fits_key=True, key_usage=_SIGNS, extended_key_usages=(client,)),
        Profile(
            "iot-device", issuing, issuer_fits_key=True, key_usage=_SIGNS, extended_key_usages=(client,), validity=_YEAR
        ),
    )


def _for_signing(issuing: tuple[str, ...]) -> tuple[Profile, ...]:
    def signer(name: str, usage: x509.ObjectIdentifier, *, critical: bool = False, commits: bool = False) -> Profile:
        return Profile(
            name,
            issuing,
            issuer_fits_key=True,
            protocols=_BY_REQUEST,
            requesters=OPERATORS,
            validity=_YEAR,
            name_kinds=_NOBODY,
            key_usage=_SIGNS | {"contentCommitment"} if commits else _SIGNS,
            extended_key_usages=(usage,),
            extended_key_usage_critical=critical,
        )

    return (
        Profile(
            "smime",
            issuing,
            issuer_fits_key=True,
            protocols=_BY_REQUEST,
            validity=_YEAR,
            subject_attributes=SUBJECT_ATTRIBUTES | {NameOID.EMAIL_ADDRESS, NameOID.GIVEN_NAME, NameOID.SURNAME},
            name_kinds=frozenset({AltNameKind.EMAIL}),
            names_required=frozenset({AltNameKind.EMAIL}),
            extended_key_usages=(ExtendedKeyUsageOID.EMAIL_PROTECTION,),
        ),
        signer("code-signing", ExtendedKeyUsageOID.CODE_SIGNING),
        signer("document-signing", DOCUMENT_SIGNING, commits=True),
        # RFC 3161 §2.3: this usage alone, and critical.
        signer("time-stamping", ExtendedKeyUsageOID.TIME_STAMPING, critical=True),
    )


def registration_authority(issuing: tuple[str, ...]) -> Profile:
    """The profile of those who enrol for others (RFC 6402 §2.10); no protocol offers it until settings say so."""
    return Profile(
        REGISTRATION_AUTHORITY,
        issuing,
        issuer_fits_key=True,
        protocols=frozenset(),
        requesters=OPERATORS,
        validity=_YEAR,
        name_kinds=_NOBODY,
        key_usage=_SIGNS,
        extended_key_usages=(ExtendedKeyUsageOID.CLIENT_AUTH, CMC_RA),
    )


def _for_authorities(issuing: tuple[str, ...], roots: tuple[str, ...]) -> tuple[Profile, ...]:
    responder = Profile(
        "ocsp-responder",
        issuing,
        issuer_fits_key=True,
        protocols=_BY_REQUEST,
        requesters=OPERATORS,
        validity=timedelta(days=30),
        name_kinds=_NOBODY,
        key_usage=_SIGNS,
        extended_key_usages=(ExtendedKeyUsageOID.OCSP_SIGNING,),
        ocsp_no_check=True,
        published=False,
    )
    # Issuing CAs made here may have no CA below them, so that roots sign sub CAs; without roots there are none.
    if not roots:
        return (responder,)
    sub_ca = Profile(
        "sub-ca",
        roots,
        issuer_fits_key=True,
        protocols=frozenset({IssuingProtocol.CA_API}),
        requesters=OPERATORS,
        validity=5 * _YEAR,
        name_kinds=_NOBODY,
        ca=True,
        path_length=0,
        key_usage=frozenset({"keyCertSign", "cRLSign"}),
        extended_key_usages=(),
    )
    return (responder, sub_ca)


def audit_profile(issuing: tuple[str, ...]) -> Profile:
    """The profile of the keys that sign checkpoints of the audit chain, and nothing else."""
    return Profile(
        "audit-checkpoint",
        issuing,
        issuer_fits_key=True,
        public=False,
        validity=_YEAR,
        extended_key_usages=(AUDIT_CHECKPOINT,),
        key_usage=_SIGNS,
    )


def responder_profile(issuer: str) -> Profile:
    """The profile of one issuer's delegated OCSP responder (RFC 6960 §4.2.2.2), which nobody asks the status of."""
    return Profile(
        f"ocsp-responder:{issuer}",
        (),
        speaks_for=issuer,
        public=False,
        validity=timedelta(days=30),
        extended_key_usages=(ExtendedKeyUsageOID.OCSP_SIGNING,),
        key_usage=_SIGNS,
        ocsp_no_check=True,
        published=False,
    )
