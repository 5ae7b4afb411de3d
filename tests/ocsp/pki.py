"""A small PKI for tests of status: real keys and certificates, in memory."""

from __future__ import annotations

import functools
import hashlib
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.internet.defer import execute

from opencertd.issuance.issuers import Issuer, Issuers
from opencertd.keys.signer import PrivateKey, SoftwareSigner
from opencertd.model.certificates import IssuerRecord, IssuerRole

NOW = datetime(2030, 5, 17, 12, 30, 15, 250_000, tzinfo=UTC)
START = datetime(2020, 1, 1, tzinfo=UTC)  # tests against OpenSSL run in the real present
END = datetime(2045, 1, 1, tzinfo=UTC)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@functools.cache
def rsa_key(number: int = 0) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def build_certificate(
    subject: str,
    public_key: object,
    issuer_name: x509.Name,
    issuer_key: PrivateKey,
    *,
    serial: int | None = None,
    ca: bool = False,
    responder: bool = False,
    not_before: datetime = START,
    not_after: datetime = END,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(issuer_name)
        .public_key(public_key)
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if responder:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
        builder = builder.add_extension(usage, critical=False).add_extension(x509.OCSPNoCheck(), critical=False)
    if ca:
        builder = builder.add_extension(
            x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True
        )
    return builder.sign(issuer_key, hashes.SHA256())


@dataclass(frozen=True)
class Ca:
    """An issuer with its key."""

    issuer: Issuer
    key: PrivateKey

    @property
    def certificate(self) -> x509.Certificate:
        return self.issuer.certificate

    def issue(self, serial: int, subject: str = "leaf.example", *, not_after: datetime = END) -> x509.Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        return build_certificate(
            subject, key.public_key(), self.certificate.subject, self.key, serial=serial, not_after=not_after
        )


def signer(key: PrivateKey) -> SoftwareSigner:
    return SoftwareSigner(key, execute)


def build_ca(label: str, key: PrivateKey, parent: Ca | None = None) -> Ca:
    certificate = build_certificate(
        f"Test {label}",
        key.public_key(),
        name(f"Test {label}") if parent is None else parent.certificate.subject,
        key if parent is None else parent.key,
        ca=True,
    )
    der = certificate.public_bytes(Encoding.DER)
    record = IssuerRecord(
        id=hashlib.sha256(der).hexdigest()[:32],
        name=label,
        role=IssuerRole.ROOT if parent is None else IssuerRole.ISSUING,
        certificate_der=der,
        key_reference=f"{label}.pem",
        parent_id=None if parent is None else parent.issuer.id,
    )
    root_der = der if parent is None else parent.issuer.root_der
    return Ca(Issuer(record, certificate, signer(key), (der,), root_der), key)


class Pki:
    """`root` signs `ecdsa`; `rsa` is a root of its own."""

    def __init__(self) -> None:
        self.root = build_ca("ecdsa-root", ec.generate_private_key(ec.SECP384R1()))
        self.ecdsa = build_ca("ecdsa", ec.generate_private_key(ec.SECP256R1()), self.root)
        self.rsa = build_ca("rsa", rsa_key())
        self.issuers = Issuers((self.root.issuer, self.ecdsa.issuer, self.rsa.issuer))

    def ca_of(self, issuer: Issuer) -> Ca:
        return next(ca for ca in (self.root, self.ecdsa, self.rsa) if ca.issuer.id == issuer.id)


@functools.cache
def pki() -> Pki:
    return Pki()


def write_pem(path: Path, *certificates: x509.Certificate) -> Path:
    path.write_bytes(b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates))
    return path


def run(*arguments: object, **options: object) -> str:
    """Output of a command with stderr in it; it may fail."""
    done = subprocess.run(
        [str(argument) for argument in arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
        **options,
    )
    return done.stdout.decode(errors="replace")


def lint(tool: str, path: Path, *arguments: str) -> list[str]:
    """Findings of a pkilint console script on a DER file."""
    program = Path(sys.executable).parent / tool
    said = run(program, "lint", *arguments, "--document-format", "DER", "-s", "WARNING", "-f", "CSV", path)
    header, *findings = said.splitlines()
    assert header.startswith("node_path,"), said
    return [finding for finding in findings if finding]
