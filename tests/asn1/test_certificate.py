from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from opencertd.asn1.certificate import subject_and_key
from opencertd.asn1.der import DerError
from tests.ocsp.pki import END, START, pki


def test_the_subject_keeps_its_string_types() -> None:
    ca = pki().ecdsa
    teletex = x509.NameAttribute(NameOID.COMMON_NAME, "Old CA", _type=_ASN1Type.T61String)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([teletex]))
        .issuer_name(ca.certificate.subject)
        .public_key(ca.key.public_key())
        .serial_number(7)
        .not_valid_before(START)
        .not_valid_after(END)
        .sign(ca.key, hashes.SHA256())
    )
    subject, key = subject_and_key(certificate.public_bytes(Encoding.DER))
    assert b"\x14\x06Old CA" in subject
    assert key == ca.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def test_an_rsa_key_is_its_rsapublickey() -> None:
    ca = pki().rsa
    _, key = subject_and_key(ca.issuer.certificate_der)
    assert key == ca.key.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)


@pytest.mark.parametrize("data", [b"", b"\x30\x00", b"\x30\x05\x30\x00\x30\x00\x03\x00", b"\x02\x01\x00"])
def test_what_is_no_certificate_is_a_der_error(data: bytes) -> None:
    with pytest.raises(DerError):
        subject_and_key(data)
