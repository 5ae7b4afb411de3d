"""Payloads become values or refusals, and documents say what the values are."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencertd.acme import documents, messages
from opencertd.acme.documents import Meta
from opencertd.acme.states import (
    Account,
    AccountStatus,
    Authorization,
    AuthorizationStatus,
    Challenge,
    ChallengeStatus,
    Order,
    OrderStatus,
    Problem,
)
from opencertd.acme.urls import Urls
from opencertd.errors import Refusal, RefusalKind
from opencertd.model.certificates import RevocationReason
from opencertd.model.names import parse_dns_name
from tests.acme.signing import b64, ec_key, jwk_of, thumbprint_of

NOW = datetime(2026, 5, 1, 12, 0, 0, 999, tzinfo=UTC)
LATER = NOW + timedelta(days=7)
URLS = Urls("https://ca.example/acme")
META = Meta()


def payload(**members: Any) -> bytes:
    return json.dumps(members).encode()


def kind_of(parse: Callable[[bytes], object], **members: Any) -> RefusalKind:
    with pytest.raises(Refusal) as caught:
        parse(payload(**members))
    return caught.value.kind


def ordered(*values: str) -> list[str]:
    identifiers = [{"type": "dns", "value": value} for value in values]
    return [name.value for name in messages.parse_new_order(payload(identifiers=identifiers)).names]


def test_names_are_normalised_and_kept_once() -> None:
    assert ordered("WWW.Example.ORG.", "*.Example.org", "www.example.org", "b.example") == [
        "www.example.org",
        "*.example.org",
        "b.example",
    ]


@pytest.mark.parametrize(
    "value",
    [
        *("192.0.2.1", "::1", "0x7f.0.0.1"),
        *("a..b", "", ".", "a" * 64 + ".example", "-a.example", "xn--0.example", "a b.example", "ä.example"),
        *("*.*.example", "a.*.example", "a.example\0", "http://a.example"),
    ],
)
def test_a_bad_name_is_refused_by_name(value: str) -> None:
    with pytest.raises(Refusal) as caught:
        ordered("good.example", value)
    assert caught.value.kind is RefusalKind.MALFORMED
    assert [name.name for name in caught.value.names] == [value]


def test_an_address_as_dns_identifier_is_told_so() -> None:
    with pytest.raises(Refusal, match="it is an IP address"):
        ordered("10.1.2.3")


def test_other_identifier_types_are_not_supported() -> None:
    identifiers = [{"type": "email", "value": "a@b.example"}]
    assert kind_of(messages.parse_new_order, identifiers=identifiers) is RefusalKind.UNSUPPORTED_NAME


def test_several_bad_identifiers_are_each_named() -> None:
    identifiers = [
        {"type": "email", "value": "a@b.example"},
        {"type": "dns", "value": "good.example"},
        {"type": "dns", "value": "bad..example"},
    ]
    with pytest.raises(Refusal) as caught:
        messages.parse_new_order(payload(identifiers=identifiers))
    assert caught.value.kind is RefusalKind.MALFORMED
    assert [(name.kind, name.name) for name in caught.value.names] == [
        (RefusalKind.UNSUPPORTED_NAME, "a@b.example"),
        (RefusalKind.MALFORMED, "bad..example"),
    ]


def test_a_hundred_names_are_taken_and_one_more_is_not() -> None:
    names = [f"n{count}.example" for count in range(101)]
    assert ordered(*names[:100]) == names[:100]
    with pytest.raises(Refusal) as caught:
        ordered(*names)
    assert caught.value.kind is RefusalKind.REJECTED_NAME


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"identifiers": []},
        {"identifiers": "a.example"},
        {"identifiers": [None]},
        {"identifiers": [{"type": "dns"}]},
        {"identifiers": [{"type": "dns", "value": 5}]},
        {"identifiers": [{"type": "dns", "value": "a.example"}], "notAfter": "2027-01-01"},
        {"identifiers": [{"type": "dns", "value": "a.example"}], "notBefore": 1798761600},
    ],
)
def test_a_strange_order_is_malformed(members: dict[str, Any]) -> None:
    assert kind_of(messages.parse_new_order, **members) is RefusalKind.MALFORMED


def test_absent_null_and_empty_times_are_the_same() -> None:
    identifiers = [{"type": "dns", "value": "a.example", "extra": 1}]
    messages.parse_new_order(payload(identifiers=identifiers, notBefore=None, notAfter="", profile="x"))


def test_contacts() -> None:
    assert messages.parse_contact(["mailto:Some.One@Example.ORG"]) == ("mailto:Some.One@example.org",)
    assert messages.parse_contact(None) == messages.parse_contact([]) == ()
    for url in ("tel:+1", "https://a.example", "someone@a.example", ""):
        assert kind_of(messages.parse_account_update, contact=[url]) is RefusalKind.UNSUPPORTED_CONTACT
    for url in ("mailto:", "mailto:a", "mailto:a@b@", "mailto:a@b.example?subject=x", "mailto:a@b.example,c@d.example"):
        assert kind_of(messages.parse_account_update, contact=[url]) is RefusalKind.INVALID_CONTACT
    assert kind_of(messages.parse_account_update, contact=["mailto:a@b.example"] * 11) is RefusalKind.INVALID_CONTACT
    assert kind_of(messages.parse_account_update, contact="mailto:a@b.example") is RefusalKind.MALFORMED
    assert kind_of(messages.parse_account_update, contact=[5]) is RefusalKind.MALFORMED


def test_an_update_changes_what_it_names() -> None:
    assert messages.parse_account_update(b"") == messages.AccountUpdate(None, deactivate=False)
    assert messages.parse_account_update(payload(status="valid")) == messages.AccountUpdate(None, deactivate=False)
    assert messages.parse_account_update(payload(contact=[])) == messages.AccountUpdate((), deactivate=False)
    assert messages.parse_account_update(payload(status="deactivated")).deactivate


def test_only_true_is_true() -> None:
    assert messages.parse_new_account(payload(termsOfServiceAgreed=True, onlyReturnExisting=True)) == (
        messages.NewAccount(None, terms_agreed=True, only_existing=True, binding=None)
    )
    assert messages.parse_new_account(payload(termsOfServiceAgreed=1, onlyReturnExisting="true")) == (
        messages.NewAccount(None, terms_agreed=False, only_existing=False, binding=None)
    )


@pytest.mark.parametrize("data", [b"", b"\0", b"\xfb\xff\xfe", b"abc", b"abcd", b"a" * 300])
def test_der_comes_in_any_base64(data: bytes) -> None:
    for text in (b64(data), base64.urlsafe_b64encode(data).decode(), base64.b64encode(data).decode()):
        assert messages.parse_finalize(payload(csr=text)) == data
        assert messages.parse_revocation(payload(certificate=text)).certificate_der == data


@pytest.mark.parametrize("csr", [None, 5, "a b", "é", "AAAAA", ["AA"]])
def test_a_csr_that_is_no_base64_is_a_bad_csr(csr: Any) -> None:
    assert kind_of(messages.parse_finalize, csr=csr) is RefusalKind.BAD_CSR


def test_revocation_reasons() -> None:
    assert messages.parse_revocation(payload(certificate="AA")).reason is RevocationReason.UNSPECIFIED
    assert messages.parse_revocation(payload(certificate="AA", reason=None)).reason is RevocationReason.UNSPECIFIED
    assert messages.parse_revocation(payload(certificate="AA", reason=1)).reason is RevocationReason.KEY_COMPROMISE
    for reason in (6, 7, 8, 11, -1, 1.0, True, "1", "keyCompromise", []):
        refused = kind_of(messages.parse_revocation, certificate="AA", reason=reason)
        assert refused is RefusalKind.BAD_REVOCATION_REASON


def test_key_change() -> None:
    key = ec_key()
    change = messages.parse_key_change(payload(account="https://x", oldKey=jwk_of(key)))
    assert (change.account_url, change.old_key.thumbprint) == ("https://x", thumbprint_of(key))
    assert kind_of(messages.parse_key_change, oldKey=jwk_of(key)) is RefusalKind.MALFORMED
    assert kind_of(messages.parse_key_change, account="https://x") is RefusalKind.MALFORMED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "value", "kty"]), inner),
    max_leaves=6,
)
MEMBERS = ["identifiers", "contact", "status", "csr", "certificate", "reason", "account", "oldKey"]


@settings(max_examples=300)
@given(
    st.sampled_from(
        [
            messages.parse_new_account,
            messages.parse_account_update,
            messages.parse_new_order,
            messages.parse_deactivation,
            messages.parse_challenge_response,
            messages.parse_finalize,
            messages.parse_revocation,
            messages.parse_key_change,
            messages.check_post_as_get,
        ]
    ),
    st.dictionaries(st.sampled_from(MEMBERS), JSON).map(lambda value: json.dumps(value).encode()) | st.binary(),
)
def test_any_payload_gives_a_value_or_a_refusal(parse: Callable[[bytes], object], data: bytes) -> None:
    with suppress(Refusal):
        parse(data)


def has_null(value: object) -> bool:
    if isinstance(value, dict):
        return any(has_null(each) for each in value.values())
    if isinstance(value, list):
        return any(has_null(each) for each in value)
    return value is None


def an_order(**changes: Any) -> Order:
    name = parse_dns_name("example.org")
    error = changes.pop("problem", None)
    challenge = Challenge("c1", "z1", "http-01", "tok", ChallengeStatus.INVALID if error else ChallengeStatus.PENDING)
    failed = AuthorizationStatus.INVALID if error else AuthorizationStatus.PENDING
    authorizations = tuple(
        Authorization(
            f"z{count}",
            "a1",
            name,
            count == 2,
            failed,
            LATER,
            (Challenge(challenge.id, f"z{count}", "http-01", "tok", challenge.status, error=error),),
        )
        for count in range(1, changes.pop("count", 1) + 1)
    )
    values: dict[str, Any] = {"status": OrderStatus.PENDING, **changes}
    names = (name, parse_dns_name("*.example.org"))[: len(authorizations)]
    return Order("o1", "a1", "default", names, expires=LATER, created_at=NOW, authorizations=authorizations, **values)


def test_the_directory_has_its_urls_and_says_only_what_is_set() -> None:
    base = "https://ca.example/acme"
    assert documents.directory(URLS, Meta(), {}) == {
        "newNonce": f"{base}/new-nonce",
        "newAccount": f"{base}/new-account",
        "newOrder": f"{base}/new-order",
        "revokeCert": f"{base}/revoke-cert",
        "keyChange": f"{base}/key-change",
        "renewalInfo": f"{base}/renewal-info",
        "meta": {},
    }
    told = documents.directory(URLS, Meta("https://w.example", "https://t.example"), {})["meta"]
    assert told == {"website": "https://w.example", "termsOfService": "https://t.example"}


def test_a_pending_order() -> None:
    assert documents.order(URLS, an_order(count=2), NOW) == {
        "status": "pending",
        "expires": "2026-05-08T12:00:00Z",
        "identifiers": [{"type": "dns", "value": "example.org"}, {"type": "dns", "value": "*.example.org"}],
        "authorizations": [f"https://ca.example/acme/authorization/z{count}" for count in (1, 2)],
        "finalize": "https://ca.example/acme/order/o1/finalize",
        "profile": "default",
    }


def test_a_valid_order_has_its_certificate_and_an_invalid_one_its_error() -> None:
    valid = documents.order(URLS, an_order(status=OrderStatus.VALID, certificate_id=1), NOW)
    assert valid["certificate"] == "https://ca.example/acme/order/o1/certificate"
    failed = an_order(status=OrderStatus.INVALID, error=Problem("badCSR", "no"))
    assert documents.order(URLS, failed, NOW)["error"] == {
        "type": "urn:ietf:params:acme:error:badCSR",
        "detail": "no",
    }


def test_an_order_tells_why_its_authorizations_failed() -> None:
    one = documents.order(URLS, an_order(problem=Problem("dns", "no name")), NOW)
    assert one["status"] == "invalid"
    assert one["error"] == {"type": "urn:ietf:params:acme:error:dns", "detail": "example.org: no name"}
    two = documents.order(URLS, an_order(count=2, problem=Problem("dns", "no name")), NOW)["error"]
    assert two["type"] == "urn:ietf:params:acme:error:compound"
    assert (
        two["subproblems"]
        == [
            {
                "type": "urn:ietf:params:acme:error:dns",
                "detail": "no name",
                "identifier": {"type": "dns", "value": "example.org"},
            }
        ]
        * 2
    )


def test_wildcard_is_told_only_when_it_is_one() -> None:
    plain, wild = an_order(count=2).authorizations
    assert documents.authorization(URLS, plain, NOW, META) == {
        "identifier": {"type": "dns", "value": "example.org"},
        "status": "pending",
        "expires": "2026-05-08T12:00:00Z",
        "challenges": [
            {
                "type": "http-01",
                "url": "https://ca.example/acme/challenge/c1",
                "status": "pending",
                "token": "tok",
            }
        ],
    }
    document = documents.authorization(URLS, wild, NOW, META)
    assert document["wildcard"] is True
    assert document["identifier"]["value"] == "example.org"


def test_a_settled_challenge_tells_when_or_why() -> None:
    proven = Challenge("c", "z", "dns-01", "tok", ChallengeStatus.VALID, validated_at=NOW)
    assert documents.challenge(URLS, proven, "a1", META)["validated"] == "2026-05-01T12:00:00Z"
    failed = Challenge("c", "z", "dns-01", "tok", ChallengeStatus.INVALID, error=Problem("dns", "no"))
    assert documents.challenge(URLS, failed, "a1", META)["error"]["type"] == "urn:ietf:params:acme:error:dns"


def test_no_document_has_a_null() -> None:
    account = Account("a1", AccountStatus.VALID, {}, "t", (), False, NOW)
    shown = [documents.account(URLS, account, None), documents.directory(URLS, Meta(), {})]
    shown += [documents.order(URLS, an_order(problem=problem), NOW) for problem in (None, Problem("dns", "x"))]
    shown += [documents.authorization(URLS, each, NOW, META) for each in an_order(count=2).authorizations]
    assert not any(has_null(document) for document in shown)


def test_only_our_account_urls_name_accounts() -> None:
    assert URLS.account_id(URLS.account("abc-_9")) == "abc-_9"
    for url in ("", "abc", "https://other.example/acme/account/abc", URLS.account(""), URLS.account("a/b"), "\0"):
        assert URLS.account_id(url) is None
