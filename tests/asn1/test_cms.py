from __future__ import annotations

import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import given, settings
from hypothesis import strategies as st

from opencertd.asn1.cms import decode_certs_only, encode_certs_only
from tests.ocsp.pki import pki


def _certificates() -> list[x509.Certificate]:
    return [pki().root.certificate, pki().ecdsa.certificate, pki().rsa.certificate]


def _ders() -> list[bytes]:
    return [certificate.public_bytes(Encoding.DER) for certificate in _certificates()]


def test_the_bytes_are_those_of_another_implementation() -> None:
    assert encode_certs_only(_ders()) == pkcs7.serialize_certificates(_certificates(), Encoding.DER)


def test_given_order_and_repetition_do_not_change_the_bytes() -> None:
    ders = _ders()
    assert encode_certs_only([*reversed(ders), ders[0]]) == encode_certs_only(ders)


def test_what_goes_in_comes_out() -> None:
    assert set(decode_certs_only(encode_certs_only(_ders()))) == set(_ders())


def test_openssl_prints_every_certificate() -> None:
    printed = subprocess.run(
        ["openssl", "pkcs7", "-inform", "DER", "-print_certs", "-noout"],
        input=encode_certs_only(_ders()),
        capture_output=True,
        check=True,
    ).stdout.decode()
    for certificate in _certificates():
        (common_name,) = certificate.subject
        assert f"CN = {common_name.value}" in printed


def test_openssl_cms_reads_it_too() -> None:
    ended = subprocess.run(
        ["openssl", "cms", "-inform", "DER", "-cmsout", "-noout", "-print"],
        input=encode_certs_only(_ders()),
        capture_output=True,
        check=True,
    )
    assert ended.stdout.count(b"d.certificate") == 3


@pytest.mark.parametrize("data", [b"", b"0", b"\x30\x00", b"not CMS at all", b"\x30\x80\0\0"])
def test_what_is_no_cms_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="CMS"):
        decode_certs_only(data)


@settings(deadline=None, max_examples=400)
@given(st.integers(0, 100_000), st.integers(0, 255))
def test_no_damage_makes_the_decoder_fail_otherwise(place: int, value: int) -> None:
    data = bytearray(encode_certs_only(_ders()))
    data[place % len(data)] = value
    try:
        decode_certs_only(bytes(data))
    except ValueError as error:
        assert "CMS" in str(error)


def test_a_message_without_certificates_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="CMS"):
        decode_certs_only(encode_certs_only([]))
