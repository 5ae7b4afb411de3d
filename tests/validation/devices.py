"""Attestation objects as devices make them, right and wrong in one respect; CBOR is written here, not by the code."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

NOW = datetime(2031, 5, 6, tzinfo=UTC)
AIK = x509.ObjectIdentifier("2.23.133.8.3")


def cbor(value: Any) -> bytes:
    """RFC 8949, shortest form."""
    match value:
        case bool():
            return b"\xf5" if value else b"\xf4"
        case None:
            return b"\xf6"
        case int():
            return head(0, value) if value >= 0 else head(1, -1 - value)
        case bytes():
            return head(2, len(value)) + value
        case str():
            return head(3, len(value.encode())) + value.encode()
        case list():
            return head(4, len(value)) + b"".join(map(cbor, value))
        case dict():
            return head(5, len(value)) + b"".join(cbor(key) + cbor(each) for key, each in value.items())
    raise TypeError(value)


def head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes([major << 5 | number])
    for info, form in ((24, ">B"), (25, ">H"), (26, ">I"), (27, ">Q")):
        if number < 1 << 8 * struct.calcsize(form):
            return bytes([major << 5 | info]) + struct.pack(form, number)
    raise ValueError(number)


@dataclass(frozen=True)
class Ca:
    """A maker's CA."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def issue(
    key: Any,
    subject: str,
    by: Ca | None,
    *extensions: tuple[x509.ExtensionType, bool],
    signer: Any = None,
    begins: datetime = NOW - timedelta(days=1),
    ends: datetime = NOW + timedelta(days=9),
) -> x509.Certificate:
    """A certificate for a public key."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(by.certificate.subject if by else name(subject))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(by.key if by else signer, hashes.SHA256())


def make_ca(subject: str, by: Ca | None = None, *, length: int | None = None, **more: Any) -> Ca:
    key = ec.generate_private_key(ec.SECP256R1())
    basic = (x509.BasicConstraints(ca=True, path_length=length), True)
    return Ca(issue(key.public_key(), subject, by, basic, signer=key, **more), key)


def other(oid: str, value: bytes) -> tuple[x509.ExtensionType, bool]:
    """An extension that `cryptography` does not know."""
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), False


def device_names(*names: tuple[str, bytes]) -> tuple[x509.ExtensionType, bool]:
    """A critical subjectAltName of otherNames, as TPM makers write it."""
    return x509.SubjectAlternativeName([x509.OtherName(x509.ObjectIdentifier(o), v) for o, v in names]), True


def attestation(format_: str, statement: dict[str, Any]) -> bytes:
    return cbor({"fmt": format_, "attStmt": statement})


def sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
