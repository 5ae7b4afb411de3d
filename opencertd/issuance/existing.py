"""An existing CA, brought in PEM files, becomes an issuer here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from opencertd.asn1 import pem
from opencertd.errors import StartError
from opencertd.issuance.ceremony import NewAuthority, issuer_record
from opencertd.keys.files import read_private_key
from opencertd.keys.kinds import PublicKey
from opencertd.model.certificates import IssuerRole


def take_in(name: str, certificate_file: Path | None, key_file: Path | None, passphrase: bytes | None) -> NewAuthority:
    """An existing CA as issuer `name` (`rsa` or `ecdsa`); either file may hold both certificate and key.

    The certificate file may be a chain: issuing CA first, then its parents. Raises StartError in words.
    """
    files = [path for path in (certificate_file, key_file) if path is not None]
    try:
        contents = {path: path.read_bytes() for path in files}
    except OSError as error:
        raise StartError(f"cannot read {error.filename}: {error.strerror}") from None
    where = " and ".join(str(path) for path in files)
    key_source = key_file or next((path for path in files if b"PRIVATE KEY-----" in contents[path]), files[0])
    key = read_private_key(key_source, passphrase)
    wanted = rsa.RSAPrivateKey if name == "rsa" else ec.EllipticCurvePrivateKey
    if not isinstance(key, wanted):
        raise StartError(f"the key in {key_source} is not {'an RSA' if name == 'rsa' else 'an EC'} key")
    certificate, parents = _chain_in(b"\n".join(contents.values()), key.public_key(), where)
    check_ca(certificate, where)
    return NewAuthority(issuer_record(name, IssuerRole.ISSUING, certificate, parents_der=tuple(parents)), key)


def _chain_in(data: bytes, key: PublicKey, where: str) -> tuple[x509.Certificate, list[bytes]]:
    """The certificate that belongs to `key`, and the certificates above it in order, from one or more files."""
    try:
        certificates = [x509.load_der_x509_certificate(der) for der in pem.parse_certificates(data)]
    except ValueError as error:
        raise StartError(f"cannot read the certificates in {where}: {error}") from None
    if not certificates:
        raise StartError(f"there is no PEM certificate in {where}")
    return chain_of_key(certificates, key, where)


def chain_of_key(
    certificates: Sequence[x509.Certificate], key: PublicKey, where: str
) -> tuple[x509.Certificate, list[bytes]]:
    """The certificate that belongs to `key`, and those of the certificates above it, nearest first.

    Raises StartError when there is none.
    """
    own = [certificate for certificate in certificates if certificate.public_key() == key]
    if not own:
        raise StartError(f"the private key belongs to none of the certificates in {where}")
    parents: list[bytes] = []
    current = own[0]
    while current.issuer != current.subject:
        above = next((c for c in certificates if c.subject == current.issuer and is_signed_by(current, c)), None)
        if above is None or len(parents) > len(certificates):
            break
        parents.append(above.public_bytes(Encoding.DER))
        current = above
    return own[0], parents


def is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer`'s key signed `certificate`, which names it."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:
        return False
    return True


def check_ca(certificate: x509.Certificate, where: str) -> None:
    """Raise StartError unless the certificate may sign certificates."""
    extensions = {extension.oid: extension.value for extension in certificate.extensions}
    constraints = extensions.get(ExtensionOID.BASIC_CONSTRAINTS)
    if not isinstance(constraints, x509.BasicConstraints) or not constraints.ca:
        raise StartError(f"the certificate in {where} is not a CA certificate (basicConstraints CA:TRUE)")
    usage = extensions.get(ExtensionOID.KEY_USAGE)  # without it a key may do everything (RFC 5280 §4.2.1.3)
    if isinstance(usage, x509.KeyUsage) and not usage.key_cert_sign:
        raise StartError(f"the certificate in {where} may not sign certificates (keyUsage keyCertSign)")
