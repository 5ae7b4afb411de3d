"""A small CA for tests, built by cryptography alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH


class Pair:
    """A certificate with its key."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self.key = key

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def build(
    subject: str,
    issuer: Pair | None = None,
    *,
    ca: bool = False,
    usages: tuple[x509.ObjectIdentifier, ...] = (),
    age: timedelta = timedelta(hours=1),
    life: timedelta = timedelta(hours=2),
) -> Pair:
    """A certificate for `subject`, made `age` ago for `life`; self-signed without an issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    start = datetime.now(UTC) - age
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer.certificate.subject if issuer else _name(subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + life)
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
    )
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if not ca:
        names = x509.SubjectAlternativeName([x509.DNSName(subject), x509.IPAddress(ip_address("127.0.0.1"))])
        builder = builder.add_extension(names, critical=False)
    return Pair(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


@cache
def root() -> Pair:
    return build("Test Root", ca=True)


@cache
def issuing() -> Pair:
    """Under the root; what the server knows as its own CA."""
    return build("Test Issuing", root(), ca=True)


@cache
def namesake() -> Pair:
    """Another CA that calls itself as ours does."""
    return build("Test Issuing", ca=True)
