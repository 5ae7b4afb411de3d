"""Certificates that tls-alpn-01 servers show, right and wrong in one respect."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")


def general_name(text: str) -> x509.GeneralName:
    """An address or a DNS name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


@dataclass(frozen=True)
class Shown:
    """A certificate and the key that answers for it, in DER and PEM."""

    certificate_der: bytes
    certificate_pem: bytes
    key_pem: bytes


def challenge_certificate(
    key_authorization: str,
    names: Sequence[str],
    *,
    critical: bool = True,
    digest: bytes | None = None,
    with_digest: bool = True,
    foreign: bool = False,
) -> Shown:
    """As RFC 8737 §3 asks, but for what the arguments spoil. `foreign`: signed by another key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "challenge")])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=7))
    )
    if names:
        san = x509.SubjectAlternativeName([general_name(name) for name in names])
        builder = builder.add_extension(san, critical=False)
    if with_digest:
        value = digest if digest is not None else hashlib.sha256(key_authorization.encode()).digest()
        extension = x509.UnrecognizedExtension(ACME_IDENTIFIER, bytes([4, len(value)]) + value)
        builder = builder.add_extension(extension, critical=critical)
    certificate = builder.sign(ec.generate_private_key(ec.SECP256R1()) if foreign else key, hashes.SHA256())
    return Shown(
        certificate.public_bytes(serialization.Encoding.DER),
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
