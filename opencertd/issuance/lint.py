"""The last look before signing: rules over the finished certificate, signed by a throw-away key, not over the plan.

A finding means that this program is wrong, not the request; it stops issuance all the same (RFC 5280 §4).
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID

from opencertd.asn1 import dn, signed
from opencertd.issuance.issuers import Issuer
from opencertd.issuance.profiles import Profile, general_name
from opencertd.keys.kinds import kind_of
from opencertd.model.names import AltName

_ALLOWED = {
    ExtensionOID.BASIC_CONSTRAINTS: True,
    ExtensionOID.KEY_USAGE: True,
    ExtensionOID.EXTENDED_KEY_USAGE: False,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER: False,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME: None,  # critical exactly when the subject is empty
    ExtensionOID.AUTHORITY_INFORMATION_ACCESS: False,
    ExtensionOID.CRL_DISTRIBUTION_POINTS: False,
    ExtensionOID.OCSP_NO_CHECK: False,
}
"""Extensions that an end-entity certificate may have, and whether they are critical."""


@dataclass(frozen=True)
class Expectation:
    """What the certificate must be."""

    profile: Profile
    issuer: Issuer
    spki_der: bytes
    subject: x509.Name
    names: tuple[AltName, ...]
    serial: int


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
    if certificate.not_valid_after_utc - certificate.not_valid_before_utc >= expected.profile.validity:
        findings.append("it is valid for longer than the profile allows")
    return findings


def _lint_extension_set(certificate: x509.Certificate, expected: Expectation) -> list[str]:
    findings = []
    present = {extension.oid: extension.critical for extension in certificate.extensions}
    for oid, critical in present.items():
        if oid not in _ALLOWED:
            findings.append(f"the extension {oid.dotted_string} may not be in a certificate")
        elif oid == ExtensionOID.SUBJECT_ALTERNATIVE_NAME:
            if critical is bool(certificate.subject.rdns):
                findings.append("subjectAltName is critical exactly when the subject is empty")
        elif critical is not _ALLOWED[oid]:
            findings.append(f"the extension {oid.dotted_string} has the wrong criticality")
    required = {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    }
    if expected.names:
        required.add(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    findings += [f"the extension {oid.dotted_string} is missing" for oid in required - present.keys()]
    return findings


def _lint_extension_values(certificate: x509.Certificate, expected: Expectation) -> list[str]:
    extensions = {extension.oid: extension.value for extension in certificate.extensions}
    findings = []
    if extensions.get(ExtensionOID.BASIC_CONSTRAINTS) != x509.BasicConstraints(ca=False, path_length=None):
        findings.append("basicConstraints does not say that it is no CA")
    if not _is_fit(extensions.get(ExtensionOID.KEY_USAGE), kind_of(certificate.public_key()).family):
        findings.append("keyUsage is not that of an end entity with such a key")
    usages = extensions.get(ExtensionOID.EXTENDED_KEY_USAGE)
    if not isinstance(usages, x509.ExtendedKeyUsage) or tuple(usages) != expected.profile.extended_key_usages:
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
    return findings


def _is_fit(usage: x509.ExtensionType | None, family: str) -> bool:
    """Keys sign, RSA keys may encipher keys besides, ML-KEM keys do that alone (RFC 9935); none is a CA's."""
    if not isinstance(usage, x509.KeyUsage) or usage.key_cert_sign or usage.crl_sign:
        return False
    if family == "ml-kem":
        return usage.key_encipherment and not usage.digital_signature
    return usage.digital_signature and (family == "rsa" or not usage.key_encipherment)


def _lint_algorithm(specimen_der: bytes, expected: Expectation) -> list[str]:
    if signed.split(specimen_der)[1] != expected.issuer.signer.algorithm_der:
        return ["the signature algorithm is not the issuer's"]
    return []
