"""Things an attacker brings: a CA with our CA's name, and requests that ask for what nobody may have."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tests.interop.https import Identity

UNKNOWN = ObjectIdentifier("1.3.6.1.4.1.55555.1.1")
NAME_CONSTRAINTS = x509.NameConstraints(permitted_subtrees=[x509.DNSName("evil.test")], excluded_subtrees=None)


@dataclass(frozen=True)
class RogueIssuer:
    """A key of its own under the subject, and the subject key identifier, of one of our issuing CAs."""

    model: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def identity(self, directory: Path, subject: x509.Name, serial: int) -> Identity:
        """A client certificate signed by the rogue, with its chain in the file; what it says may all be ours."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        identifier = self.model.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        leaf = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.model.subject)
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier(identifier.digest, None, None), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return save(directory, key, [leaf, self.certificate(identifier)])

    def certificate(self, identifier: x509.SubjectKeyIdentifier) -> x509.Certificate:
        """The rogue's own, self-signed under our issuing CA's name."""
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(self.model.subject)
            .issuer_name(self.model.subject)
            .public_key(self.key.public_key())
            .serial_number(self.model.serial_number)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(identifier, critical=False)
            .sign(self.key, hashes.SHA256())
        )


def save(directory: Path, key: ec.EllipticCurvePrivateKey, chain: list[x509.Certificate]) -> Identity:
    """The chain and the key as files."""
    directory.mkdir(parents=True, exist_ok=True)
    certificate_file, key_file = directory / "rogue.pem", directory / "rogue.key"
    certificate_file.write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in chain))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Identity(certificate_file, key_file)


def greedy_csr(name: str, *names: str) -> bytes:
    """A well-signed request (DER) for `name` and `names` that also asks to be a CA, and for more still."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = dict.fromkeys(("key_cert_sign", "crl_sign", "digital_signature"), True)
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    usage |= dict.fromkeys((*others, "encipher_only", "decipher_only"), False)
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in (name, *names)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=5), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), critical=True)
        .add_extension(NAME_CONSTRAINTS, critical=True)
        .add_extension(ten_years(), critical=False)
        .add_extension(x509.UnrecognizedExtension(UNKNOWN, b"\x04\x03abc"), critical=True)
    )
    key = ec.generate_private_key(ec.SECP256R1())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def ten_years() -> x509.PrivateKeyUsagePeriod:
    """The nearest a PKCS#10 request comes to asking for a validity."""
    now = datetime.now(UTC).replace(microsecond=0)
    return x509.PrivateKeyUsagePeriod(not_before=now, not_after=now + timedelta(days=3650))


def check_modest(certificate: x509.Certificate) -> None:
    """The certificate has nothing of what `greedy_csr` wished for, beyond its names."""
    extensions = certificate.extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert not usage.key_cert_sign
    assert not usage.crl_sign
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.OCSP_SIGNING not in purposes
    present = {extension.oid for extension in extensions}
    assert UNKNOWN not in present
    assert NAME_CONSTRAINTS.oid not in present
    assert x509.PrivateKeyUsagePeriod.oid not in present
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= timedelta(days=91)
