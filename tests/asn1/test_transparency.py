"""Precertificates and timestamps, byte by byte as cryptography makes and reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.asn1 import der, signed
from opencertd.asn1.transparency import (
    ECDSA,
    SHA256,
    Timestamp,
    check_certified_alike,
    parse_digitally_signed,
    poisoned,
    stamped,
)

KEY = ec.generate_private_key(ec.SECP256R1())
AT = datetime(2026, 6, 1, 12, 0, 0, 123000, tzinfo=UTC)
STAMPS = tuple(
    Timestamp(bytes([n]) * 32, int(AT.timestamp() * 1000), extensions, SHA256, ECDSA, b"signature %d" % n)
    for n, extensions in ((1, b""), (2, b"\0\0\5abcde"))
)


def built(*extensions: tuple[x509.ExtensionType, bool], names: int = 1) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .serial_number(7)
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA")]))
        .public_key(KEY.public_key())
        .not_valid_before(AT)
        .not_valid_after(AT + timedelta(days=1))
        .add_extension(x509.BasicConstraints(False, None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(f"{n}.test") for n in range(names)]), critical=False)
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(KEY, hashes.SHA256())


BASE = built().tbs_certificate_bytes
ECDSA_SHA256 = signed.split(built().public_bytes(Encoding.DER))[1]


@pytest.mark.parametrize("names", [1, 8, 100, 5000])  # every length of length that there is
def test_a_precertificate_is_what_cryptography_makes_of_it(names: int) -> None:
    expected = built((x509.PrecertPoison(), True), names=names)
    assert poisoned(built(names=names).tbs_certificate_bytes) == expected.tbs_certificate_bytes


def test_cryptography_reads_the_timestamps_that_were_put_in() -> None:
    certificate = x509.load_der_x509_certificate(signed.assemble(stamped(BASE, STAMPS), ECDSA_SHA256, b"none"))
    extension = certificate.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps)
    assert not extension.critical
    read = [(s.log_id, s.timestamp, s.extension_bytes, s.signature) for s in extension.value]
    assert read == [(s.log_id, AT.replace(tzinfo=None), s.extensions, s.signature) for s in STAMPS]
    assert all(s.version is x509.certificate_transparency.Version.v1 for s in extension.value)
    assert certificate.tbs_precertificate_bytes == BASE


def test_certificate_and_precertificate_belong_together() -> None:
    check_certified_alike(poisoned(BASE), stamped(BASE, STAMPS))


FINAL = stamped(BASE, STAMPS)


@pytest.mark.parametrize(
    "other",
    [
        BASE,
        poisoned(BASE),
        poisoned(FINAL),
        stamped(FINAL, STAMPS),
        stamped(built(names=2).tbs_certificate_bytes, STAMPS),
        stamped(built((x509.OCSPNoCheck(), False)).tbs_certificate_bytes, STAMPS),
        b"",
        b"\x30\x00",
        FINAL[:-1],
        FINAL + b"\0",
    ],
)
def test_what_does_not_belong_together_is_found(other: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        check_certified_alike(poisoned(BASE), other)


def test_a_bit_flipped_anywhere_but_in_the_timestamps_is_found() -> None:
    """The timestamps are read by another check."""
    stamps_begin = FINAL.index(der.oid("1.3.6.1.4.1.11129.2.4.2")) + len(der.oid("1.3.6.1.4.1.11129.2.4.2"))
    for position in range(stamps_begin):
        wrong = bytearray(FINAL)
        wrong[position] ^= 1
        with pytest.raises(ValueError, match=r"\w"):
            check_certified_alike(poisoned(BASE), bytes(wrong))


def test_a_moved_extension_is_found() -> None:
    first, second = x509.OCSPNoCheck(), x509.TLSFeature([x509.TLSFeatureType.status_request])
    one = built((first, False), (second, False)).tbs_certificate_bytes
    other = built((second, False), (first, False)).tbs_certificate_bytes
    with pytest.raises(ValueError, match="extension"):
        check_certified_alike(poisoned(one), stamped(other, STAMPS))


def test_a_poison_that_is_not_critical_is_none() -> None:
    weak = built((x509.UnrecognizedExtension(x509.PrecertPoison.oid, b"\x05\0"), False)).tbs_certificate_bytes
    with pytest.raises(ValueError, match="poison"):
        check_certified_alike(weak, FINAL)


def test_a_digitally_signed_has_exactly_its_length() -> None:
    assert parse_digitally_signed(b"\4\3\0\2ab") == (4, 3, b"ab")
    for wrong in (b"", b"\4\3\0", b"\4\3\0\3ab", b"\4\3\0\1ab"):
        with pytest.raises(ValueError, match="DigitallySigned"):
            parse_digitally_signed(wrong)
