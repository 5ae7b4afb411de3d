"""Enrolment bodies: every form that clients send is read, and nothing but a CSR or a refusal comes of any bytes."""

from __future__ import annotations

import base64
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import assume, given
from hypothesis import strategies as st

from opencertd.asn1.cms import encode_certs_only
from opencertd.asn1.pem import encode_pem
from opencertd.asn1.pkcs10 import parse_csr
from opencertd.errors import Refusal, RefusalKind
from opencertd.est.messages import BodyForm, encode_refusal, encode_transfer, parse_enrolment
from tests.ca import NOW
from tests.est.rig import issuers, new_csr

CSR = new_csr("CN=device", "device.test")
ONE_LINE = base64.b64encode(CSR)
FORMS = {
    "DER": CSR,
    "PEM": encode_pem("CERTIFICATE REQUEST", CSR),
    "PEM of Windows": encode_pem("NEW CERTIFICATE REQUEST", CSR).replace(b"\n", b"\r\n"),
    "PEM after text": b"Certificate Request:\n  Data: ...\n" + encode_pem("CERTIFICATE REQUEST", CSR),
    "base64 on one line": ONE_LINE,
    "base64 with a newline": ONE_LINE + b"\n",
    "base64 in lines": base64.encodebytes(CSR),
    "base64 in CRLF lines": base64.encodebytes(CSR).replace(b"\n", b"\r\n"),
    "base64 without padding": ONE_LINE.rstrip(b"="),
    "base64 with blanks around": b" \r\n" + ONE_LINE + b"\r\n\r\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read(form: str) -> None:
    assert parse_csr(parse_enrolment("application/pkcs10", FORMS[form])).der == CSR


@pytest.mark.parametrize(
    "content_type", ["application/pkcs10; charset=utf-8", "Application/PKCS10", " application/pkcs10 ;"]
)
def test_content_type_is_compared_without_parameters_and_case(content_type: str) -> None:
    assert parse_enrolment(content_type, CSR) == CSR


@pytest.mark.parametrize("content_type", [None, "", "application/x-www-form-urlencoded", "application/pkcs10x"])
def test_other_content_types_are_refused(content_type: str | None) -> None:
    with pytest.raises(Refusal) as refused:
        parse_enrolment(content_type, CSR)
    assert refused.value.kind is RefusalKind.UNSUPPORTED_MEDIA_TYPE


@pytest.mark.parametrize("body", [b"", b" \n", b"hello", b"!!!!", b"aGVsbG8=", "ünsinn".encode(), ONE_LINE[:-7] + b"*"])
def test_bodies_that_are_none_are_refused(body: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        parse_enrolment("application/pkcs10", body)
    assert refused.value.kind is RefusalKind.MALFORMED


@pytest.mark.parametrize("start", [b"", b"\x30"])
def test_thousands_of_pem_blocks_are_refused_at_once(start: bytes) -> None:
    """Looking for the end of each block costs seconds in a body of 64 KiB."""
    before = time.process_time()
    with pytest.raises(Refusal):
        parse_csr(parse_enrolment("application/pkcs10", start + b"-----BEGIN A-----\n" * 3600))
    assert time.process_time() - before < 0.1


@given(st.binary(max_size=300) | st.text().map(str.encode) | st.binary(max_size=200).map(base64.b64encode))
def test_any_bytes_give_a_request_or_a_refusal(body: bytes) -> None:
    try:
        parse_csr(parse_enrolment("application/pkcs10", body))
    except Refusal as refusal:
        assert refusal.kind in (RefusalKind.MALFORMED, RefusalKind.BAD_CSR)


@given(st.integers(0, len(CSR) - 1), st.integers(1, 255), st.sampled_from(["DER", "base64"]))
def test_a_changed_octet_never_gets_past_the_signature(place: int, change: int, form: str) -> None:
    # How many bits of the signature's last octet do not count: where those are zero anyway, it is the same signature.
    assume(place != len(CSR) - len(x509.load_der_x509_csr(CSR).signature) - 1)
    broken = bytearray(CSR)
    broken[place] ^= change
    body = bytes(broken) if form == "DER" else base64.encodebytes(bytes(broken))
    with pytest.raises(Refusal):
        parse_csr(parse_enrolment("application/pkcs10", body))


@pytest.mark.parametrize(
    ("form", "user_agent", "wrapped"),
    [
        (BodyForm.AUTO, "curl/8", True),
        (BodyForm.AUTO, None, False),  # strongSwan
        (BodyForm.AUTO, "", False),
        (BodyForm.WRAPPED, None, True),
        (BodyForm.SINGLE, "curl/8", False),
    ],
)
def test_body_forms(form: BodyForm, user_agent: str | None, wrapped: bool) -> None:
    body = encode_transfer(encode_certs_only(issuers().authorities_der(NOW)), form, user_agent)
    lines = body.split(b"\n")
    assert lines[-1] == b"" and b"\r" not in body
    assert max(len(line) for line in lines) == 64 if wrapped else len(lines) == 2
    read = pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))
    assert {c.public_bytes(Encoding.DER) for c in read} == set(issuers().authorities_der(NOW))


def test_openssl_reads_the_wrapped_form() -> None:
    body = encode_transfer(encode_certs_only(issuers().authorities_der(NOW)), BodyForm.WRAPPED, None)
    der = subprocess.run(["openssl", "base64", "-d"], input=body, capture_output=True, check=True).stdout
    command = ["openssl", "pkcs7", "-inform", "DER", "-print_certs"]
    pem = subprocess.run(command, input=der, capture_output=True, check=True).stdout
    assert len(x509.load_pem_x509_certificates(pem)) == 4


@pytest.mark.parametrize(
    ("detail", "sentence"),
    [
        ("no", b"No.\n"),
        ("two\nlines\r\nhere.", b"Two lines here.\n"),
        ("Ümlaut!", "Ümlaut!\n".encode()),
        ("", b"Malformed.\n"),
        ("lone \ud800", b"Lone ?.\n"),
    ],
)
def test_refusals_are_one_sentence(detail: str, sentence: bytes) -> None:
    assert encode_refusal(Refusal(RefusalKind.MALFORMED, detail)) == sentence
