"""Client certificates that must not count: made by openssl, without any key of the CA."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.interop.clients import new_csr, new_key, openssl
from tests.interop.daemon import Daemon
from tests.interop.https import Identity, request

NAME = "bad.test"


def issuing(ca: Daemon) -> x509.Certificate:
    """The CA that signs for EC keys."""
    return x509.load_der_x509_certificate(request(ca, "GET", "/ca/ecdsa/certificate").body)


def foreign(directory: Path, subject: str = "/CN=Another CA") -> Identity:
    """A client's certificate by another CA, whose own name may be chosen."""
    ca_key = new_key(directory / "foreign-ca.key")
    ca = directory / "foreign-ca.pem"
    openssl("req", "-x509", "-new", "-key", ca_key, "-subj", subject, "-days", "30", "-out", ca)
    key = new_key(directory / "foreign.key")
    certificate = directory / "foreign.pem"
    signer = ("-CA", ca, "-CAkey", ca_key, "-days", "10")
    openssl("x509", "-req", "-in", new_csr(key, NAME), *signer, "-out", certificate)
    return Identity(certificate, key)


def self_made(ca: Daemon, directory: Path) -> Identity:
    """By a CA that calls itself exactly as ours does."""
    name = issuing(ca).subject
    subject = "".join(f"/{a.rfc4514_attribute_name}={a.value}" for a in name)
    made = foreign(directory, subject)
    assert made.certificate.issuer.public_bytes() == name.public_bytes()
    return made


def self_signed(directory: Path) -> Identity:
    """By nobody."""
    key, certificate = new_key(directory / "self.key"), directory / "self.pem"
    openssl("req", "-x509", "-new", "-key", key, "-subj", f"/CN={NAME}", "-days", "30", "-out", certificate)
    return Identity(certificate, key)


def bent(identity: Identity, directory: Path) -> Identity:
    """A certificate of the CA in which a bit of the signature is another."""
    der = bytearray(identity.certificate.public_bytes(Encoding.DER))
    der[-1] ^= 1
    path = directory / "bent.pem"
    path.write_bytes(x509.load_der_x509_certificate(bytes(der)).public_bytes(Encoding.PEM))
    return Identity(path, identity.key_file)
