"""The last look before signing: rules over the finished certificate, signed by a throw-away key, not over the plan.

They follow the profile: all its extensions, and no other. A finding means that this program is wrong, not the request;
it stops issuance all the same (RFC 5280 §4).
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID

from opencertd.asn1 import dn, signed
from opencertd.issuance.issuers import Issuer
from opencertd.issuance.profiles import Profile, Publication, certificate_policies, general_name, key_usage
from opencertd.model.names import AltName


@dataclass(frozen=True)
class Expectation:
    """What the certificate must be."""

    profile: Profile
    issuer: Issuer
    spki_der: bytes
    subject: x509.Name
    names: tuple[AltName, ...]
    serial: int
    publication: Publication


def lint(specimen_der: bytes, expected: Expectation) -> tuple[str, ...]:
    """What is wrong with the specimen, in words; nothing when all is well."""
    certificate = x509.load_der_x509_certificate(specimen_der)
    return (
        *_lint_fields(certificate, expected),
        *_lint_validity(certificate, expected),
        *_lint_extension_set(certificate, expected),
        *_lint_extension_values(certificate, expected),
        *_lint_algorithm(specimen_der, expected),
    )


def _lint_fields(certificate: x509.Certificate, expected: Expectation) -> list[str]:
    findings = []
    if certificate.version is not x509.Version.v3:
        findings.append("the version is not 3")
    serial = certificate.serial_number
    if serial != expected.serial or serial <= 0 or serial.bit_length() > 159:
        findings.append("the serial number is not the one reserved, or not a positive number of at most 20 octets")
    if certificate.issuer != expected.issuer.certificate.subject:
        findings.append("the issuer is not the issuing CA's subject")
    if dn.canonical(certificate.subject) != dn.canonical(expected.subject):
        findings.append("the subject is not the one asked")
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if spki != expected.spki_der:
        findings.append("the public key is not the one proven")
    return findings


def _lint_validity(certificate: x509.Certificate, expected: Expectation) -> list[str]:
    findings = []
    issuer = expected.issuer.certificate
    if certificate.not_valid_before_utc < issuer.not_valid_before_utc:
        findings.append("it begins before its issuer")
    if certificate.not_valid_after_utc > issuer.not_valid_after_utc:
        findings.append("it ends after its issuer")
    if certificate.not_valid_after_utc - certificate.not_valid_before_utc >= expected.profile.longest:
        findings.append("it is valid for longer than the profile allows")
    return findings


def _critical(certificate: x509.Certificate, expected: Expectation) -> dict[x509.ObjectIdentifier, bool]:
    """The extensions that there must be, no more and no less, and whether they are critical (RFC 5280 §4.2)."""
    profile, urls = expected.profile, expected.publication
    always = {
        ExtensionOID.BASIC_CONSTRAINTS: True,
        ExtensionOID.KEY_USAGE: True,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER: False,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False,
    }
    perhaps = (
        (ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bool(expected.names), not certificate.subject.rdns),
        (ExtensionOID.EXTENDED_KEY_USAGE, bool(profile.extended_key_usages), profile.extended_key_usage_critical),
        (ExtensionOID.CERTIFICATE_POLICIES, bool(profile.certificate_policies), False),
        (ExtensionOID.TLS_FEATURE, profile.must_staple, False),
        (ExtensionOID.OCSP_NO_CHECK, profile.ocsp_no_check, False),
        (ExtensionOID.AUTHORITY_INFORMATION_ACCESS, bool(urls.ocsp or urls.ca_issuers), False),
        (ExtensionOID.CRL_DISTRIBUTION_POINTS, bool(urls.crl), False),
    )
    fixed = {extension.oid: extension.critical for extension in profile.extensions}
    return always | {oid: critical for oid, there, critical in perhaps if there} | fixed


def _lint_extension_set(certificate: x509.Certificate, expected: Expectation) -> list[str]:
    present = {extension.oid: extension.critical for extension in certificate.extensions}
    wanted = _critical(certificate, expected)
    findings = [f"the extension {oid.dotted_string} is not the profile's" for oid in present.keys() - wanted.keys()]
    findings += [f"the extension {oid.dotted_string} is missing" for oid in wanted.keys() - present.keys()]
    findings += [
        f"the extension {oid.dotted_string} has the wrong criticality"
        for oid in wanted.keys() & present.keys()
        if present[oid] is not wanted[oid]
    ]
    return findings


def _lint_extension_values(certificate: x509.Certificate, expected: Expectation) -> list[str]:
    extensions = {extension.oid: extension.value for extension in certificate.extensions}
    profile, findings = expected.profile, []
    if extensions.get(ExtensionOID.BASIC_CONSTRAINTS) != x509.BasicConstraints(profile.ca, profile.path_length):
        findings.append(f"basicConstraints does not say that it is {'a' if profile.ca else 'no'} CA")
    if extensions.get(ExtensionOID.KEY_USAGE) != key_usage(profile, certificate.public_key()):
        findings.append("keyUsage is not the profile's for such a key")
    usages = extensions.get(ExtensionOID.EXTENDED_KEY_USAGE)
    if (tuple(usages) if isinstance(usages, x509.ExtendedKeyUsage) else ()) != profile.extended_key_usages:
        findings.append("extKeyUsage is not the profile's")
    authority = extensions.get(ExtensionOID.AUTHORITY_KEY_IDENTIFIER)
    if (
        not isinstance(authority, x509.AuthorityKeyIdentifier)
        or authority.key_identifier != expected.issuer.subject_key_identifier
    ):
        findings.append("authorityKeyIdentifier is not the issuer's subjectKeyIdentifier")
    names = extensions.get(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    found = list(names) if isinstance(names, x509.SubjectAlternativeName) else []
    if found != [general_name(name) for name in expected.names]:
        findings.append("subjectAltName is not what was granted")
    return findings + _lint_profile_values(extensions, profile)


def _lint_profile_values(extensions: dict[x509.ObjectIdentifier, x509.ExtensionType], profile: Profile) -> list[str]:
    """What only some profiles have."""
    findings = []
    policies = certificate_policies(profile) if profile.certificate_policies else None
    if extensions.get(ExtensionOID.CERTIFICATE_POLICIES) != policies:
        findings.append("certificatePolicies is not the profile's")
    for fixed in profile.extensions:
        value = extensions.get(fixed.oid)
        if value is not None and value.public_bytes() != fixed.value.public_bytes():
            findings.append(f"the extension {fixed.oid.dotted_string} has another value than the profile's")
    return findings


def _lint_algorithm(specimen_der: bytes, expected: Expectation) -> list[str]:
    if signed.split(specimen_der)[1] != expected.issuer.signer.algorithm_der:
        return ["the signature algorithm is not the issuer's"]
    return []
