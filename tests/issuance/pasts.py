"""Directories of `openssl ca` with a past of any length, written without `openssl`, which would take hours."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
END = BEGIN + timedelta(days=7300)
REASONS = ("", ",keyCompromise", ",superseded", ",certificateHold", ",CAkeyTime,20230101000000Z")


def ca_directory(place: Path, lines: int = 0, files: int = 0) -> Path:
    """A CA with an index of that many lines, the first of them with a file of the certificate."""
    directory = place / "ca"
    for made in (directory, directory / "newcerts", directory / "private"):
        made.mkdir(parents=True)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = signed(key, key, 0xCA, "Old CA")
    (directory / "cacert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "private" / "cakey.pem").write_bytes(private)
    serials = random.Random(1)
    with (directory / "index.txt").open("w") as index:
        for number, serial in enumerate(sorted(serials.sample(range(1 << 60), lines))):
            index.write(line(serial, number) + "\n")
            if number < files:
                issued = signed(key, ec.generate_private_key(ec.SECP256R1()), serial, f"host{number}.example")
                name = f"{serial:X}".zfill(len(f"{serial:X}") + len(f"{serial:X}") % 2)
                (directory / "newcerts" / f"{name}.pem").write_bytes(issued.public_bytes(Encoding.PEM))
    return directory


def line(serial: int, number: int) -> str:
    """Every tenth is revoked, every third expired."""
    digits = f"{serial:X}"
    digits = digits.zfill(len(digits) + len(digits) % 2)
    revoked = f"240301000000Z{REASONS[number // 10 % len(REASONS)]}" if number % 10 == 0 else ""
    status = "R" if revoked else ("E" if number % 3 == 0 else "V")
    expires = "240201000000Z" if number % 3 == 0 else "20431227000000Z"
    return f"{status}\t{expires}\t{revoked}\t{digits}\tunknown\t/O=Example/CN=host{number}.example"


def revoked_in(lines: int) -> Iterator[int]:
    """The numbers of the lines that are revoked."""
    return iter(range(0, lines, 10))


def signed(
    issuer_key: ec.EllipticCurvePrivateKey, key: ec.EllipticCurvePrivateKey, serial: int, name: str
) -> x509.Certificate:
    """A certificate of the old CA, or the CA's own."""
    own = issuer_key is key
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Old CA")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial or 1)
        .not_valid_before(BEGIN)
        .not_valid_after(END)
    )
    if own:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    else:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
