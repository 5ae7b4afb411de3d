"""A CA's certificate and key are found in whatever form and division they come, and what is wrong is one sentence."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

from opencertd.errors import StartError
from opencertd.issuance.brought import BroughtCa, read_ca
from opencertd.issuance.ca_directory import find_ca_directory
from tests.ca import NOW, authorities
from tests.interop.clients import openssl

ROOT, ISSUING = authorities()[0], authorities()[1]
CERTIFICATE = x509.load_der_x509_certificate(ISSUING.record.certificate_der)
ABOVE = x509.load_der_x509_certificate(ROOT.record.certificate_der)
SECRET = b"correct horse"


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def key(encoding: Encoding = Encoding.PEM, form: PrivateFormat = PrivateFormat.PKCS8, secret: bytes = b"") -> bytes:
    return ISSUING.key.private_bytes(encoding, form, BestAvailableEncryption(secret) if secret else NoEncryption())


def p12(secret: bytes) -> bytes:
    protection = BestAvailableEncryption(secret) if secret else NoEncryption()
    assert isinstance(ISSUING.key, ec.EllipticCurvePrivateKey)
    return pkcs12.serialize_key_and_certificates(b"ca", ISSUING.key, CERTIFICATE, [ABOVE], protection)


def never(what: str) -> bytes:
    raise AssertionError(f"nobody should be asked for the passphrase of {what}")


def brought(tmp_path: Path, *contents: bytes, ask: Callable[[str], bytes] = never) -> BroughtCa:
    files = []
    for number, content in enumerate(contents):
        files.append(tmp_path / f"file{number}")
        files[-1].write_bytes(content)
    return read_ca(files, ask, NOW)


FORMS = {
    "PEM": (pem(CERTIFICATE), key()),
    "one PEM file": (key() + pem(CERTIFICATE) + pem(ABOVE),),
    "DER": (CERTIFICATE.public_bytes(Encoding.DER), key(Encoding.DER)),
    "DER, key first": (key(Encoding.DER, PrivateFormat.TraditionalOpenSSL), CERTIFICATE.public_bytes(Encoding.DER)),
    "the root beside it": (pem(ABOVE), pem(CERTIFICATE), key()),
    "text around": (b"Bag Attributes\n" + pem(CERTIFICATE), b"hello\n" + key()),
    "PKCS#12 without passphrase": (p12(b""),),
}
ENCRYPTED = {
    "PKCS#8": (pem(CERTIFICATE), key(secret=SECRET)),
    "OpenSSL's old form": (pem(CERTIFICATE), key(form=PrivateFormat.TraditionalOpenSSL, secret=SECRET)),
    "PKCS#8 in DER": (pem(CERTIFICATE), key(Encoding.DER, secret=SECRET)),
    "PKCS#12": (p12(SECRET),),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form(tmp_path: Path, form: str) -> None:
    ca = brought(tmp_path, *FORMS[form])
    assert (ca.certificate, ca.key.public_key()) == (CERTIFICATE, ISSUING.key.public_key())


@pytest.mark.parametrize("form", ENCRYPTED)
def test_every_encrypted_form(tmp_path: Path, form: str) -> None:
    assert brought(tmp_path, *ENCRYPTED[form], ask=lambda _: SECRET).key.public_key() == ISSUING.key.public_key()
    with pytest.raises(StartError, match="wrong passphrase"):
        brought(tmp_path, *ENCRYPTED[form], ask=lambda _: b"wrong")


def test_pkcs12_as_openssl_writes_it(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_bytes(pem(CERTIFICATE) + key())
    files = ("-in", tmp_path / "c.pem", "-out", tmp_path / "ca.p12")
    openssl("pkcs12", "-export", *files, "-passout", f"pass:{SECRET.decode()}")
    assert read_ca([tmp_path / "ca.p12"], lambda _: SECRET, NOW).key.public_key() == ISSUING.key.public_key()


def test_the_chain_comes_along(tmp_path: Path) -> None:
    assert brought(tmp_path, p12(b"")).parents_der == (ROOT.record.certificate_der,)


def leaf() -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(CERTIFICATE.subject)
        .issuer_name(CERTIFICATE.subject)
        .public_key(ISSUING.key.public_key())
        .serial_number(5)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
    )
    assert isinstance(ISSUING.key, ec.EllipticCurvePrivateKey)
    return pem(builder.sign(ISSUING.key, hashes.SHA256()))


BAD: dict[str, tuple[tuple[bytes, ...], str]] = {
    "no key": ((pem(CERTIFICATE),), "there is no private key in"),
    "no certificate": ((key(),), "there is no certificate in"),
    "another key": ((pem(ABOVE), key()), "belongs to none of the certificates"),
    "two keys": (
        (
            pem(CERTIFICATE),
            key(),
            ROOT.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        ),
        "several private keys",
    ),
    "no CA": ((leaf(), key()), "is not a CA certificate"),
    "nonsense": ((b"\x30\x03\x02\x01",), "neither PEM nor"),
    "nothing": ((b"",), "neither PEM nor"),
    "a broken certificate": (
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",),
        "cannot read the cert",
    ),
    "too much": ((b"x" * (1 << 21),), "larger than 1 MiB"),
    "damaged PKCS#12": ((p12(b"")[:-10],), "PKCS#12|neither PEM"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said(tmp_path: Path, case: str) -> None:
    contents, why = BAD[case]
    with pytest.raises(StartError, match=why):
        brought(tmp_path, *contents, ask=lambda _: SECRET)


def test_an_expired_ca_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca").write_bytes(pem(CERTIFICATE) + key())
    with pytest.raises(StartError, match="has expired"):
        read_ca([tmp_path / "ca"], never, NOW + timedelta(days=40 * 365))
    with pytest.raises(StartError, match="check the clock"):
        read_ca([tmp_path / "ca"], never, NOW - timedelta(days=365))


def test_a_short_rsa_key_is_refused(tmp_path: Path) -> None:
    short = rsa.generate_private_key(65537, 1024)
    (tmp_path / "k").write_bytes(short.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    about = ("-subj", "/CN=short", "-addext", "basicConstraints=critical,CA:TRUE")
    openssl("req", "-x509", "-key", tmp_path / "k", *about, "-out", tmp_path / "c")
    certificate = x509.load_pem_x509_certificate((tmp_path / "c").read_bytes())
    with pytest.raises(StartError, match="has 1024 bits"):
        read_ca([tmp_path / "c", tmp_path / "k"], never, certificate.not_valid_before_utc)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot read"):
        read_ca([tmp_path / "none"], never, NOW)
    with pytest.raises(StartError, match="cannot read the directory"):
        find_ca_directory(tmp_path / "none")
    with pytest.raises(StartError, match="no CA directory"):
        find_ca_directory(tmp_path)
    (tmp_path / "ca.crt").write_bytes(pem(CERTIFICATE))
    with pytest.raises(StartError, match=r"no index\.txt"):
        find_ca_directory(tmp_path)
