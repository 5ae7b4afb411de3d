"""A CA that somebody brings: its certificate, key and chain out of PEM, DER and PKCS#12 files, checked in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key, pkcs12

from opencertd.asn1 import der
from opencertd.errors import StartError
from opencertd.issuance.existing import chain_of_key, check_ca
from opencertd.keys.files import load_private_key
from opencertd.keys.kinds import PrivateKey

LARGEST_FILE = 1 << 20
"""Octets; a chain of certificates has some thousands."""
_PKCS12_VERSION = der.integer(3)

AskPassphrase = Callable[[str], bytes]
"""The passphrase for a file of that name; asked only for what is encrypted."""


@dataclass(frozen=True)
class BroughtCa:
    """A CA's certificate and key, and the certificates above it, nearest first."""

    certificate: x509.Certificate
    key: PrivateKey
    parents_der: tuple[bytes, ...]


@dataclass(frozen=True)
class _Found:
    certificates: tuple[x509.Certificate, ...]
    keys: tuple[PrivateKey, ...]


def read_ca(files: Sequence[Path], ask: AskPassphrase, now: datetime) -> BroughtCa:
    """The CA in the files, in whatever order and division. Raises StartError in words."""
    where = " and ".join(str(file) for file in files)
    found = [_read(file, ask) for file in files]
    certificates = [certificate for one in found for certificate in one.certificates]
    keys = [key for one in found for key in one.keys]
    if not certificates:
        raise StartError(f"there is no certificate in {where}")
    if not keys:
        raise StartError(f"there is no private key in {where}: a CA that is to issue needs its key")
    if any(key.public_key() != keys[0].public_key() for key in keys):
        raise StartError(f"there are several private keys in {where}: give that of the CA alone")
    certificate, parents = chain_of_key(certificates, keys[0].public_key(), where)
    check_ca(certificate, where)
    _check_fit(certificate, keys[0], where, now)
    return BroughtCa(certificate, keys[0], tuple(parents))


def _check_fit(certificate: x509.Certificate, key: PrivateKey, where: str, now: datetime) -> None:
    if now >= certificate.not_valid_after_utc:
        ended = certificate.not_valid_after_utc.date()
        raise StartError(f"the CA certificate in {where} has expired, on {ended}: nothing can be issued under it")
    if now < certificate.not_valid_before_utc:
        begins = certificate.not_valid_before_utc.date()
        raise StartError(f"the CA certificate in {where} begins only on {begins}: check the clock of this machine")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < 2048:
        raise StartError(f"the RSA key in {where} has {key.key_size} bits: no client should trust fewer than 2048")


def _read(file: Path, ask: AskPassphrase) -> _Found:
    data = read_bytes(file)
    if b"-----BEGIN" in data:
        return _Found(_pem_certificates(data, file), _pem_keys(data, file, ask))
    if _is_pkcs12(data):
        return _read_pkcs12(data, file, ask)
    try:
        return _Found((x509.load_der_x509_certificate(data),), ())
    except ValueError:
        return _Found((), (_der_key(data, file, ask),))


def read_bytes(file: Path) -> bytes:
    """Everything in the file. Raises StartError, also when that is too much."""
    try:
        with file.open("rb") as opened:
            data = opened.read(LARGEST_FILE + 1)
    except OSError as error:
        raise StartError(f"cannot read {file}: {error.strerror}") from None
    if len(data) > LARGEST_FILE:
        raise StartError(f"{file} is larger than {LARGEST_FILE >> 20} MiB: that is neither certificate nor key")
    return data


def _pem_certificates(data: bytes, file: Path) -> tuple[x509.Certificate, ...]:
    if b"CERTIFICATE-----" not in data:
        return ()
    try:
        return tuple(x509.load_pem_x509_certificates(data))
    except ValueError as error:
        raise StartError(f"cannot read the certificates in {file}: {error}") from None


def _pem_keys(data: bytes, file: Path, ask: AskPassphrase) -> tuple[PrivateKey, ...]:
    if b"PRIVATE KEY-----" not in data:
        return ()
    # PKCS#8 says it in the label, OpenSSL's old form in a header (RFC 1421).
    encrypted = b"BEGIN ENCRYPTED PRIVATE KEY" in data or b"Proc-Type: 4,ENCRYPTED" in data
    return (load_private_key(data, ask(str(file)) if encrypted else None, str(file)),)


def _is_pkcs12(data: bytes) -> bool:
    """Whether it begins as a PFX does (RFC 7292 §4): a sequence of version 3 and a content."""
    try:
        outer = der.read_tlv(data)
        first = der.read_tlv(data, outer.content_start)
    except der.DerError:
        return False
    return data[outer.content_start : first.end] == _PKCS12_VERSION and data[first.end : first.end + 1] == b"\x30"


def _read_pkcs12(data: bytes, file: Path, ask: AskPassphrase) -> _Found:
    for passphrase in (lambda: None, lambda: ask(str(file))):
        try:
            bag = pkcs12.load_pkcs12(data, passphrase())
            break
        except ValueError:
            continue
    else:
        raise StartError(f"cannot read the PKCS#12 file {file}: wrong passphrase, or the file is damaged")
    certificates = [one.certificate for one in (bag.cert, *bag.additional_certs) if one is not None]
    if bag.key is not None and not isinstance(bag.key, PrivateKey):
        raise StartError(f"the key in {file} is of a kind that cannot sign")
    return _Found(tuple(certificates), () if bag.key is None else (bag.key,))


def _der_key(data: bytes, file: Path, ask: AskPassphrase) -> PrivateKey:
    encrypted = False
    try:
        load_der_private_key(data, None)
    except TypeError:
        encrypted = True
    except ValueError:
        raise StartError(f"{file} is neither PEM nor a certificate, key or PKCS#12 file in DER") from None
    return load_private_key(data, ask(str(file)) if encrypted else None, str(file))
