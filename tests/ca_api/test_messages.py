"""The `/ca` API's words: what people may type, and what they get back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencertd.ca_api import messages
from opencertd.ca_api.messages import CertificateForm
from opencertd.errors import Refusal, RefusalKind, RefusedName
from opencertd.model.certificates import (
    USABLE_REASONS,
    CertificateRecord,
    CertificateState,
    Revocation,
    RevocationReason,
)
from opencertd.model.names import parse_dns_name, parse_ip_address

NOW = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)


def record(**others: object) -> CertificateRecord:
    fields: dict[str, object] = {
        "id": 7,
        "issuer_id": "i",
        "serial": 0xAB,
        "state": CertificateState.ISSUED,
        "profile": "default",
        "requester": "password:u",
        "requester_label": "u",
        "subject": "CN=é",
        "names": (parse_dns_name("a.test"), parse_ip_address("::1")),
        "not_before": NOW - timedelta(days=1),
        "not_after": NOW + timedelta(days=1),
        "owner": "w",
        "intended_at": NOW - timedelta(hours=2),
        "certificate_der": b"",
        "revocation": None,
    }
    return CertificateRecord(**{**fields, **others})  # type: ignore[arg-type]


@given(st.integers(0, 2**160 - 1), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 4))
def test_serials_are_read_as_people_paste_them(
    serial: int, prefix: bool, colons: bool, lower: bool, zeros: int
) -> None:
    digits = "00" * zeros + f"{serial:X}".zfill(2)
    digits = digits if len(digits) % 2 == 0 else "0" + digits
    if colons:
        digits = ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))
    text = ("0x" if prefix else "") + (digits.lower() if lower else digits)
    assert messages.parse_serial(text) == serial


@pytest.mark.parametrize("text", ["", " ", "0x", "xyz", "-1", "1.0", "A" * 65, "0x0x1", "12 34", "१२"])
def test_other_serials_are_malformed(text: str) -> None:
    with pytest.raises(Refusal) as refused:
        messages.parse_serial(text)
    assert refused.value.kind is RefusalKind.MALFORMED


@pytest.mark.parametrize("reason", RevocationReason)
def test_reasons(reason: RevocationReason) -> None:
    for text in (reason.rfc_name, reason.rfc_name.upper()):
        if reason in USABLE_REASONS:
            assert messages.parse_reason(text) is reason
        else:
            with pytest.raises(Refusal) as refused:
                messages.parse_reason(text)
            assert refused.value.kind is RefusalKind.BAD_REVOCATION_REASON


@pytest.mark.parametrize("text", ["", "boredom", "1", "key compromise"])
def test_unknown_reasons(text: str) -> None:
    with pytest.raises(Refusal) as refused:
        messages.parse_reason(text)
    assert refused.value.kind is RefusalKind.BAD_REVOCATION_REASON
    assert "keyCompromise" in refused.value.detail


@pytest.mark.parametrize(
    ("uri", "parameters"),
    [
        (b"/ca/x", {}),
        (b"/ca/x?", {}),
        (b"/x?sn=0%41&reason=&q=a+b%2B", {"sn": "0A", "reason": "", "q": "a b+"}),
        (b"/x?a=%C3%BC?b", {"a": "ü?b"}),
    ],
)
def test_queries(uri: bytes, parameters: dict[str, str]) -> None:
    assert messages.parse_query(uri) == parameters


@pytest.mark.parametrize("uri", [b"/x?a=1&a=2", b"/x?a=%FF", b"/x?\xc3\xbc=1", b"/x?" + b"a=1&" * 50])
def test_queries_that_are_refused(uri: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        messages.parse_query(uri)
    assert refused.value.kind is RefusalKind.MALFORMED


@given(st.binary(max_size=80))
def test_any_query_is_read_or_refused(query: bytes) -> None:
    try:
        messages.parse_query(b"/x?" + query)
    except Refusal as refusal:
        assert refusal.kind is RefusalKind.MALFORMED


def test_pages() -> None:
    assert messages.parse_page({}) == (0, 100)
    assert messages.parse_page({"after": "12", "limit": "1000"}) == (12, 1000)
    for bad in ({"limit": "0"}, {"limit": "1001"}, {"limit": "x"}, {"after": "-1"}, {"after": "9" * 19}, {"after": ""}):
        with pytest.raises(Refusal):
            messages.parse_page(bad)


def test_a_certificate_as_json() -> None:
    assert messages.build_certificate(record(), "ecdsa", NOW) == {
        "id": 7,
        "serial": "AB",
        "subject": "CN=é",
        "names": [{"type": "dns", "value": "a.test"}, {"type": "ip", "value": "::1"}],
        "profile": "default",
        "issuer": "ecdsa",
        "requester": "u",
        "notBefore": "2031-01-01T03:04:05Z",
        "notAfter": "2031-01-03T03:04:05Z",
        "issued": "2031-01-02T01:04:05Z",
        "status": "good",
        "revocation": None,
    }


def test_serials_are_shown_in_whole_octets() -> None:
    assert messages.build_certificate(record(serial=0xABC), "i", NOW)["serial"] == "0ABC"


def test_status() -> None:
    """The last second belongs to the validity (RFC 5280 §4.1.2.5); revoked stays revoked after it."""
    old = record(not_after=NOW)
    assert messages.build_certificate(old, "i", NOW)["status"] == "good"
    later = NOW + timedelta(seconds=1)
    assert messages.build_certificate(old, "i", later)["status"] == "expired"
    revoked = record(not_after=NOW, revocation=Revocation(NOW, RevocationReason.CA_COMPROMISE))
    shown = messages.build_certificate(revoked, "i", later)
    assert shown["status"] == "revoked"
    assert shown["revocation"] == {"at": "2031-01-02T03:04:05Z", "reason": "cACompromise"}


def test_problems() -> None:
    names = (RefusedName(RefusalKind.REJECTED_NAME, "dns", "b.test", "no"),)
    problem = json.loads(messages.encode_problem(403, Refusal(RefusalKind.REJECTED_NAME, "no, ü", names=names)))
    assert problem == {
        "type": "about:blank",
        "title": HTTPStatus.FORBIDDEN.phrase,
        "status": 403,
        "detail": "no, ü",
        "names": [{"type": "dns", "value": "b.test", "detail": "no"}],
    }


@pytest.mark.parametrize(
    ("asked", "accept", "form"),
    [
        (None, None, CertificateForm.DER),
        (None, "*/*", CertificateForm.DER),
        (None, "text/html, application/pem-certificate-chain;q=0.9, */*", CertificateForm.PEM),
        (None, "application/x-pem-file", CertificateForm.PEM),
        (None, "application/pkcs7-mime; smime-type=certs-only", CertificateForm.P7C),
        ("pem", "application/pkix-cert", CertificateForm.PEM),
        ("P7C", None, CertificateForm.P7C),
        ("der", "application/x-pem-file", CertificateForm.DER),
    ],
)
def test_forms(asked: str | None, accept: str | None, form: CertificateForm) -> None:
    assert messages.parse_form(asked, accept) is form


def test_unknown_form() -> None:
    with pytest.raises(Refusal):
        messages.parse_form("jks", None)


@pytest.mark.parametrize("text", ["2031-01-02", "2031-01-02T03:04:05", "2031-01-02T03:04:05+01:00", "yesterday", "0"])
def test_other_times_are_malformed(text: str) -> None:
    with pytest.raises(Refusal) as refused:
        messages.parse_invalidity_date(text)
    assert refused.value.kind is RefusalKind.MALFORMED
    with pytest.raises(Refusal):
        messages.parse_invalidity_date("2031-02-30T00:00:00Z")


def test_an_invalidity_date_is_read_as_it_is_shown() -> None:
    revocation = Revocation(NOW, RevocationReason.CERTIFICATE_HOLD, NOW - timedelta(days=3))
    shown = messages.build_certificate(record(revocation=revocation), "i", NOW)
    assert shown["status"] == "held"
    assert messages.parse_invalidity_date(shown["revocation"]["invalidityDate"]) == NOW - timedelta(days=3)
    assert messages.parse_invalidity_date("") is None
