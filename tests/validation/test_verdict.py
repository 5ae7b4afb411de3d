"""The judges: what proves control, what does not, and that their words repeat nothing a server said."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from opencertd.model.names import AltName, AltNameKind
from opencertd.validation.verdict import (
    ControlQuestion,
    FailureKind,
    HandshakeEvidence,
    HttpEvidence,
    TextEvidence,
    Unproven,
    check_question,
    expected_text,
    judge_handshake,
    judge_http,
    judge_texts,
)
from tests.validation.certificates import challenge_certificate

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
THUMBPRINT = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
KEY_AUTHORIZATION = f"{TOKEN}.{THUMBPRINT}"
URL = f"http://a.test/.well-known/acme-challenge/{TOKEN}"


def question(type_: str = "http-01", name: str = "a.test", kind: AltNameKind = AltNameKind.DNS) -> ControlQuestion:
    return ControlQuestion(type_, AltName(kind, name), TOKEN, KEY_AUTHORIZATION)


def http(body: bytes, status: int = 200, whole: bool = True) -> HttpEvidence:
    return HttpEvidence(URL, "10.0.0.1:80", status, body, whole)


class TestQuestions:
    @pytest.mark.parametrize(
        ("type_", "name", "kind"),
        [
            ("http-01", "a.test", AltNameKind.DNS),
            ("http-01", "10.0.0.1", AltNameKind.IP),
            ("dns-01", "a.test", AltNameKind.DNS),
            ("dns-01", "*.a.test", AltNameKind.DNS),
            ("tls-alpn-01", "a.test", AltNameKind.DNS),
            ("tls-alpn-01", "fd00::1", AltNameKind.IP),
        ],
    )
    def test_that_evidence_can_answer(self, type_: str, name: str, kind: AltNameKind) -> None:
        check_question(question(type_, name, kind))

    @pytest.mark.parametrize(
        ("type_", "name", "kind", "word"),
        [
            ("http-01", "*.a.test", AltNameKind.DNS, "wildcard"),
            ("tls-alpn-01", "*.a.test", AltNameKind.DNS, "wildcard"),
            ("dns-01", "10.0.0.1", AltNameKind.IP, "IP address"),
            ("http-01", "me@a.test", AltNameKind.EMAIL, "cannot be proven"),
            ("dns-01", "https://a.test", AltNameKind.URI, "cannot be proven"),
            ("dns-02", "a.test", AltNameKind.DNS, "no challenge type"),
        ],
    )
    def test_that_no_evidence_can_answer(self, type_: str, name: str, kind: AltNameKind, word: str) -> None:
        with pytest.raises(Unproven, match=word) as told:
            check_question(question(type_, name, kind))
        assert told.value.proof.kind is FailureKind.MALFORMED


class TestHttp:
    @pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b" \t\n\n"])
    def test_the_key_authorization_proves_whatever_white_space_ends_it(self, end: bytes) -> None:
        assert judge_http(question(), http(KEY_AUTHORIZATION.encode() + end)) is None

    @given(st.binary(max_size=300))
    def test_no_other_body_proves(self, body: bytes) -> None:
        if body.rstrip() != KEY_AUTHORIZATION.encode():
            assert judge_http(question(), http(body)) is not None

    @pytest.mark.parametrize("body", [" " + KEY_AUTHORIZATION, KEY_AUTHORIZATION + "x", TOKEN, THUMBPRINT, ""])
    def test_nearly_is_not_enough(self, body: str) -> None:
        assert judge_http(question(), http(body.encode())) is not None

    @pytest.mark.parametrize("status", [201, 204, 206, 404, 500])
    def test_only_status_200_counts_and_another_is_named(self, status: int) -> None:
        failed = judge_http(question(), http(KEY_AUTHORIZATION.encode(), status))
        assert failed is not None and failed.kind is FailureKind.INCORRECT_RESPONSE
        assert f"{URL} (at 10.0.0.1:80) answered with status {status}" in failed.detail

    def test_a_body_cut_off_proves_nothing_even_when_it_begins_well(self) -> None:
        assert judge_http(question(), http(KEY_AUTHORIZATION.encode() + b" " * 70000, whole=False)) is not None

    def test_another_accounts_answer_is_told_apart(self) -> None:
        failed = judge_http(question(), http(f"{TOKEN}.{'A' * 43}".encode()))
        assert failed is not None and failed.kind is FailureKind.UNAUTHORIZED
        assert "another account key" in failed.detail

    def test_words_give_the_length_and_never_the_body(self) -> None:
        failed = judge_http(question(), http(b"secret-of-an-internal-service"))
        assert failed is not None
        assert "29 octets" in failed.detail and URL in failed.detail and "10.0.0.1:80" in failed.detail
        assert "secret" not in failed.detail


class TestTexts:
    EXPECTED = expected_text(KEY_AUTHORIZATION).encode()

    def judge(self, *texts: bytes) -> str | None:
        failed = judge_texts(question("dns-01"), TextEvidence("_acme-challenge.a.test", texts))
        return failed.detail if failed else None

    def test_the_digest_is_base64url_of_sha256_without_padding(self) -> None:
        digest = hashlib.sha256(KEY_AUTHORIZATION.encode()).digest()
        assert base64.urlsafe_b64decode(self.EXPECTED + b"=") == digest and len(self.EXPECTED) == 43

    def test_one_of_many_is_enough(self) -> None:
        assert self.judge(self.EXPECTED) is None
        assert self.judge(b"v=spf1 -all", b"A" * 43, self.EXPECTED) is None

    @given(st.lists(st.binary(max_size=80)))
    def test_nothing_else_proves(self, texts: list[bytes]) -> None:
        if self.EXPECTED not in texts:
            assert self.judge(*texts) is not None

    @pytest.mark.parametrize("spoiled", [b'"%s"', b" %s", b"%s=", b"%s\n", b"'%s'"])
    def test_common_slips_are_named(self, spoiled: bytes) -> None:
        detail = self.judge(spoiled % self.EXPECTED)
        assert detail is not None and "within quotation marks, spaces or padding" in detail

    def test_the_key_authorization_itself_is_a_slip_too(self) -> None:
        detail = self.judge(KEY_AUTHORIZATION.encode())
        assert detail is not None and "not its digest" in detail

    def test_words_name_what_was_wanted_and_where_and_never_what_was_found(self) -> None:
        detail = self.judge(b"secret", b"B" * 43)
        assert detail is not None
        assert "2 TXT records at _acme-challenge.a.test, 1 of them of an answer's shape" in detail
        assert self.EXPECTED.decode() in detail
        assert "secret" not in detail and "BBB" not in detail


class TestHandshakes:
    def judge(
        self, der: bytes | None, name: str = "a.test", kind: AltNameKind = AltNameKind.DNS, alpn: bytes = b"acme-tls/1"
    ) -> str | None:
        evidence = HandshakeEvidence("10.0.0.1:443", alpn or None, der)
        failed = judge_handshake(question("tls-alpn-01", name, kind), evidence)
        return failed.detail if failed else None

    def test_the_right_certificate_proves(self) -> None:
        assert self.judge(challenge_certificate(KEY_AUTHORIZATION, ["a.test"]).certificate_der) is None
        assert self.judge(challenge_certificate(KEY_AUTHORIZATION, ["A.Test"]).certificate_der) is None

    def test_an_ip_address_is_proven_by_its_own_kind_of_name(self) -> None:
        der = challenge_certificate(KEY_AUTHORIZATION, ["10.0.0.1"]).certificate_der
        assert self.judge(der, "10.0.0.1", AltNameKind.IP) is None
        assert self.judge(der, "10.0.0.2", AltNameKind.IP) is not None
        assert self.judge(
            challenge_certificate(KEY_AUTHORIZATION, ["a.test"]).certificate_der, "10.0.0.1", AltNameKind.IP
        )

    @pytest.mark.parametrize(
        ("spoiled", "words"),
        [
            ({"names": ["b.test"]}, "is not for a.test"),
            ({"names": ["a.test", "b.test"]}, "has 2 names"),
            ({"names": ["a.test", "10.0.0.1"]}, "has 2 names"),
            ({"names": ["10.0.0.1"]}, "is not for a.test"),
            ({"names": []}, "has no subjectAltName"),
            ({"critical": False}, "not critical"),
            ({"with_digest": False}, "has no acmeIdentifier"),
            ({"digest": bytes(32)}, "is not the digest"),
            ({"digest": b""}, "is not the digest"),
            ({"digest": hashlib.sha256(KEY_AUTHORIZATION.encode()).digest() + b"x"}, "is not the digest"),
            ({"foreign": True}, "is not self-signed"),
        ],
    )
    def test_each_fault_is_refused_by_name(self, spoiled: dict[str, object], words: str) -> None:
        made = challenge_certificate(KEY_AUTHORIZATION, **{"names": ["a.test"], **spoiled})  # type: ignore[arg-type]
        detail = self.judge(made.certificate_der)
        assert detail is not None and words in detail and "10.0.0.1:443" in detail

    @pytest.mark.parametrize("alpn", [b"", b"http/1.1", b"h2"])
    def test_another_protocol_proves_nothing(self, alpn: bytes) -> None:
        detail = self.judge(challenge_certificate(KEY_AUTHORIZATION, ["a.test"]).certificate_der, alpn=alpn)
        assert detail is not None and "ALPN" in detail

    def test_no_certificate_proves_nothing(self) -> None:
        assert self.judge(None) is not None

    @given(st.binary(max_size=200))
    def test_bytes_that_are_no_certificate_are_a_verdict_not_an_error(self, der: bytes) -> None:
        assert self.judge(der) is not None

    @settings(max_examples=500, deadline=None)
    @given(st.data())
    def test_damage_is_a_verdict_and_proves_nothing_where_the_signature_covers_it(self, data: st.DataObject) -> None:
        der = bytearray(RIGHT)
        place = data.draw(st.integers(0, len(der) - 1))
        der[place] ^= data.draw(st.integers(1, 255))
        verdict = self.judge(bytes(der))
        if 4 <= place < 4 + len(x509.load_der_x509_certificate(RIGHT).tbs_certificate_bytes):
            assert verdict is not None


RIGHT = challenge_certificate(KEY_AUTHORIZATION, ["a.test"]).certificate_der
