"""The last look before signing: rules over the finished certificate, signed by a throw-away key, not over the plan.

They follow the profile: all its extensions, and no other. A finding means that this program is wrong, not the request;
it stops issuance all the same (RFC 5280 §4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from opencertd.asn1 import der, dn, signed
from opencertd.asn1.certificate import subject_and_key
from opencertd.asn1.tbs import read_tbs
from opencertd.issuance.issuers import Issuer
from opencertd.issuance.profiles import Profile, Publication, certificate_policies, general_name, key_usage
from opencertd.keys.kinds import SubjectKey
from opencertd.model.names import AltName

_Extensions = Mapping[x509.ObjectIdentifier, x509.Extension[x509.ExtensionType]]


class Rules:
    """What the certificates of a profile by one issuer must be, for keys like `key`; worked out once for all of them.

    `publication`: the URLs that they have.
    """

    def __init__(self, profile: Profile, issuer: Issuer, key: SubjectKey, publication: Publication) -> None:
        self.issuer_der = subject_and_key(issuer.certificate_der)[0]
        self.first_moment = issuer.certificate.not_valid_before_utc
        self.last_moment = issuer.certificate.not_valid_after_utc
        self.longest = profile.longest
        self.algorithm_der = issuer.signer.algorithm_der
        self.critical = _critical(profile, publication)
        self.values = _values(profile, issuer, key)
        self.encoded = {extension.oid: extension.value.public_bytes() for extension in profile.extensions}


@dataclass(frozen=True)
class Expectation:
    """What one certificate must be."""

    rules: Rules
    spki_der: bytes
    subject: x509.Name
    names: tuple[AltName, ...]
    serial: int


def lint(specimen_der: bytes, expected: Expectation) -> tuple[str, ...]:
    """What is wrong with the specimen, in words; nothing when all is well."""
    try:
        tbs_der, algorithm_der, _ = signed.split(specimen_der)
        certificate = x509.load_der_x509_certificate(specimen_der)
        extensions = {extension.oid: extension for extension in certificate.extensions}
        subject = certificate.subject
        return (
            *_lint_fields(tbs_der, algorithm_der, expected),
            *_lint_plain_fields(certificate, subject, expected),
            *_lint_validity(certificate, expected.rules),
            *_lint_extension_set(extensions, subject, expected),
            *_lint_extension_values(extensions, expected),
        )
    except (der.DerError, ValueError) as error:
        return (f"it is not well-formed: {error}",)


def _lint_fields(tbs_der: bytes, algorithm_der: bytes, expected: Expectation) -> list[str]:
    """Those that must be of the very bytes that somebody else has."""
    findings = []
    fields = read_tbs(tbs_der, extensions=False)
    if fields.issuer_der != expected.rules.issuer_der:
        findings.append("the issuer is not the issuing CA's subject")
    if fields.spki_der != expected.spki_der:
        findings.append("the public key is not the one proven")
    if not fields.algorithm_der == algorithm_der == expected.rules.algorithm_der:
        findings.append("the signature algorithm is not the issuer's")
    return findings


def _lint_plain_fields(certificate: x509.Certificate, subject: x509.Name, expected: Expectation) -> list[str]:
    findings = []
    if certificate.version is not x509.Version.v3:
        findings.append("the version is not 3")
    serial = certificate.serial_number
    if serial != expected.serial or serial <= 0 or serial.bit_length() > 159:
        findings.append("the serial number is not the one reserved, or not a positive number of at most 20 octets")
    if subject != expected.subject and dn.canonical(subject) != dn.canonical(expected.subject):
        findings.append("the subject is not the one asked")
    return findings


def _lint_validity(certificate: x509.Certificate, rules: Rules) -> list[str]:
    findings = []
    not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not_before < rules.first_moment:
        findings.append("it begins before its issuer")
    if not_after > rules.last_moment:
        findings.append("it ends after its issuer")
    if not_after - not_before >= rules.longest:
        findings.append("it is valid for longer than the profile allows")
    return findings


def _critical(profile: Profile, urls: Publication) -> dict[x509.ObjectIdentifier, bool]:
    """The extensions that there must be, no more and no less but for names, and whether they are critical (RFC 5280
    §4.2).
    """
    always = {
        ExtensionOID.BASIC_CONSTRAINTS: True,
        ExtensionOID.KEY_USAGE: True,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER: False,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False,
    }
    perhaps = (
        (ExtensionOID.EXTENDED_KEY_USAGE, bool(profile.extended_key_usages), profile.extended_key_usage_critical),
        (ExtensionOID.CERTIFICATE_POLICIES, bool(profile.certificate_policies), False),
        (ExtensionOID.TLS_FEATURE, profile.must_staple, False),
        (ExtensionOID.OCSP_NO_CHECK, profile.ocsp_no_check, False),
        (ExtensionOID.AUTHORITY_INFORMATION_ACCESS, bool(urls.ocsp or urls.ca_issuers), False),
        (ExtensionOID.CRL_DISTRIBUTION_POINTS, bool(urls.crl), False),
    )
    fixed = {extension.oid: extension.critical for extension in profile.extensions}
    return always | {oid: critical for oid, there, critical in perhaps if there} | fixed


def _values(
    profile: Profile, issuer: Issuer, key: SubjectKey
) -> dict[x509.ObjectIdentifier, tuple[x509.ExtensionType | None, str]]:
    """Values of extensions, None where there must be none, and what is wrong when they differ."""
    usages, policies = profile.extended_key_usages, profile.certificate_policies
    return {
        ExtensionOID.BASIC_CONSTRAINTS: (
            x509.BasicConstraints(profile.ca, profile.path_length),
            f"basicConstraints does not say that it is {'a' if profile.ca else 'no'} CA",
        ),
        ExtensionOID.KEY_USAGE: (key_usage(profile, key), "keyUsage is not the profile's for such a key"),
        ExtensionOID.EXTENDED_KEY_USAGE: (
            x509.ExtendedKeyUsage(usages) if usages else None,
            "extKeyUsage is not the profile's",
        ),
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER: (
            x509.AuthorityKeyIdentifier(issuer.subject_key_identifier, None, None),
            "authorityKeyIdentifier is not the issuer's subjectKeyIdentifier",
        ),
        ExtensionOID.CERTIFICATE_POLICIES: (
            certificate_policies(profile) if policies else None,
            "certificatePolicies is not the profile's",
        ),
    }


def _lint_extension_set(present: _Extensions, subject: x509.Name, expected: Expectation) -> list[str]:
    wanted = expected.rules.critical
    if expected.names:
        wanted = wanted | {ExtensionOID.SUBJECT_ALTERNATIVE_NAME: not subject.rdns}
    findings = [f"the extension {oid.dotted_string} is not the profile's" for oid in present.keys() - wanted.keys()]
    findings += [f"the extension {oid.dotted_string} is missing" for oid in wanted.keys() - present.keys()]
    findings += [
        f"the extension {oid.dotted_string} has the wrong criticality"
        for oid, extension in present.items()
        if extension.critical is not wanted.get(oid, extension.critical)
    ]
    return findings


def _lint_extension_values(present: _Extensions, expected: Expectation) -> list[str]:
    findings = []
    for oid, (value, wrong) in expected.rules.values.items():
        found = present.get(oid)
        if (None if found is None else found.value) != value:
            findings.append(wrong)
    names = present.get(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    listed = list(names.value) if names is not None and isinstance(names.value, x509.SubjectAlternativeName) else []
    if listed != [general_name(name) for name in expected.names]:
        findings.append("subjectAltName is not what was granted")
    for oid, encoded in expected.rules.encoded.items():
        found = present.get(oid)
        if found is not None and found.value.public_bytes() != encoded:
            findings.append(f"the extension {oid.dotted_string} has another value than the profile's")
    return findings
