"""Certificates for servers that are as they should be, and for those that are not."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Pair:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: object, ends: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + ends)
    )


def authority(subject: str, issuer: Pair | None = None) -> Pair:
    """A CA certificate: self-signed, or under `issuer`."""
    key = ec.generate_private_key(ec.SECP256R1())
    above = issuer.certificate.subject if issuer else name(subject)
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    built = (
        _builder(name(subject), above, key.public_key(), timedelta(days=30))
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(usage, critical=True)
    )
    return Pair(built.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def alt_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def leaf(issuer: Pair, *names: str, ends: timedelta = timedelta(days=10)) -> Pair:
    """An end-entity certificate for `names`."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Pair(certify(issuer, key.public_key(), name(names[0]), [alt_name(n) for n in names], ends), key)


def certify(
    issuer: Pair,
    public_key: object,
    subject: x509.Name,
    names: list[x509.GeneralName],
    ends: timedelta = timedelta(days=10),
) -> x509.Certificate:
    builder = _builder(subject, issuer.certificate.subject, public_key, ends).add_extension(
        x509.BasicConstraints(False, None), critical=True
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer.key, hashes.SHA256())


def request(key: ec.EllipticCurvePrivateKey, *names: str) -> x509.CertificateSigningRequest:
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name(names[0]))
        .add_extension(x509.SubjectAlternativeName([alt_name(n) for n in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
