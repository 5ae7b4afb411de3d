"""A CSR is read as a wish, or refused as badCSR; nothing else comes of any bytes."""

from __future__ import annotations

import ipaddress
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from opencertd.asn1 import der, pem
from opencertd.asn1.pkcs10 import parse_csr
from opencertd.errors import Refusal, RefusalKind
from tests.ca import make_csr, rsa_key, spki_of


def test_what_is_asked_is_read() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    names = (
        x509.DNSName("A.Example"),
        x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
        x509.RFC822Name("me@Example.org"),
        x509.UniformResourceIdentifier("urn:device:1"),
        x509.DNSName("a.example"),
    )
    csr = parse_csr(pem.encode_pem("NEW CERTIFICATE REQUEST", make_csr(key, "CN=x,O=y", names)))
    assert csr.spki_der == spki_of(key)
    assert [str(name) for name in csr.names] == [
        "dns:a.example",
        "ip:2001:db8::1",
        "email:me@example.org",
        "uri:urn:device:1",
    ]
    assert csr.common_names() == ("x",)


def test_openssl_s_requests_are_read(tmp_path: Path) -> None:
    config = tmp_path / "req.cnf"
    config.write_text(
        "[req]\ndistinguished_name=dn\nattributes=a\nreq_extensions=e\nprompt=no\n[dn]\nCN=device\n"
        "[a]\nchallengePassword=secret\n[e]\nsubjectAltName=DNS:device.test\nbasicConstraints=critical,CA:TRUE\n"
    )
    out = tmp_path / "r.der"
    subprocess.run(
        ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-config", config, "-outform", "DER",
         "-keyout", tmp_path / "k.pem", "-out", out],
        check=True, capture_output=True,
    )  # fmt: skip
    csr = parse_csr(out.read_bytes())
    assert csr.challenge_password == "secret"
    assert [str(name) for name in csr.names] == ["dns:device.test"]


@pytest.mark.parametrize("mask", ["default", "nombstr", "MASK:0x800", "utf8only"])
def test_a_password_in_any_of_openssl_s_string_types_is_one(tmp_path: Path, mask: str) -> None:
    """What it says matters only to those who look; a request is not bad because of it."""
    config = tmp_path / "req.cnf"
    config.write_text(
        f"[req]\ndistinguished_name=dn\nattributes=a\nprompt=no\nstring_mask={mask}\nutf8=yes\n[dn]\nCN=device\n"
        "[a]\nchallengePassword=öffne dich\n"
    )
    words = ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-config", config, "-outform", "DER"]
    done = subprocess.run([*words, "-keyout", tmp_path / "k.pem"], check=True, capture_output=True)
    password = parse_csr(done.stdout).challenge_password
    assert password is not None and (password == "öffne dich") == (mask == "utf8only")


GOOD = make_csr(rsa_key())


@pytest.mark.filterwarnings("error")
def test_an_attribute_of_a_wrong_length_is_read_and_says_nothing_in_the_log() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.warns(UserWarning):
        country = x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "DEU", _validate=False)
        subject = x509.Name([country])
        data = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    assert parse_csr(data.public_bytes(Encoding.DER)).subject == subject


def flipped_signature() -> bytes:
    return GOOD[:-1] + bytes((GOOD[-1] ^ 1,))


def malformed_extension_request() -> bytes:
    """An extensionRequest whose value is no SEQUENCE OF Extension, properly signed: clients have sent such."""
    key = ec.generate_private_key(ec.SECP256R1())
    good = make_csr(key)
    outer = der.read_only(good, der.SEQUENCE)
    info = der.children(good, outer)[0]
    version, subject, spki, _ = der.children(good, info)
    attribute = der.sequence(der.oid("1.2.840.113549.1.9.14"), der.tlv(der.SET, der.octet_string(b"no extensions")))
    tbs = der.sequence(version.raw(good), subject.raw(good), spki.raw(good), der.tlv(0xA0, attribute))
    signature = key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    return der.sequence(tbs, der.sequence(der.oid("1.2.840.10045.4.3.2")), der.bit_string(signature))


def unknown_tls_feature() -> bytes:
    """On reading it `cryptography` raises KeyError."""
    feature = x509.UnrecognizedExtension(x509.TLSFeature.oid, der.sequence(der.integer(0)))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = builder.add_extension(feature, critical=False).sign(
        ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()
    )
    return signed.public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        GOOD[:-1],
        GOOD + b"\0",
        flipped_signature(),
        malformed_extension_request(),
        unknown_tls_feature(),
        b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        pem.encode_pem("CERTIFICATE REQUEST", GOOD) * 2,
        make_csr(names=(x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),)),
        make_csr(names=(x509.DNSName("bad_name.test"),)),
        make_csr(names=(x509.DNSName("192.0.2.1"),)),
    ],
)
def test_refused(data: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        parse_csr(data)
    assert caught.value.kind is RefusalKind.BAD_CSR


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_no_flipped_byte_gets_through(position: int, mask: int) -> None:
    data = bytearray(GOOD)
    data[position] ^= mask
    with pytest.raises(Refusal) as caught:
        parse_csr(bytes(data))
    assert caught.value.kind is RefusalKind.BAD_CSR
