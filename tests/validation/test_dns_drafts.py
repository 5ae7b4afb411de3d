"""dns-account-01 and dns-persist-01, by the drafts' own examples, by tables, and by a DNS server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import pytest_twisted

from opencertd.clock import FixedClock
from opencertd.model.names import AltName, AltNameKind
from opencertd.validation.dns01 import account_label, place_of
from opencertd.validation.dns_persist import PersistTerms, hashed_uri, judge_persistent
from opencertd.validation.resolver import DnsResolver
from opencertd.validation.validator import Validator
from opencertd.validation.verdict import (
    ControlQuestion,
    FailedProof,
    FailureKind,
    ProvenUntil,
    TextEvidence,
    Unproven,
    check_question,
    expected_text,
)
from tests import dns_server

THUMBPRINT = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
ACCOUNT = "https://ca.example/acct/123"
PREFIX = "https://ca.example/account-hash/"
HASHED = f"{PREFIX}sha-256/5SQm7n6tPh2-PlLbCKGnViTXX5z19SCN4cPGQHSk-kw"  # draft -02 §10.2, for example.com
ANYWHERE = f"{PREFIX}sha-256/NpDnSwUthQK8zCgFdefYxAdAVPnygMLbs9US6oO-5ug"  # the same, for any domain
TERMS = PersistTerms(("authority.example", "ca.example.net"), PREFIX)
NOW = datetime(2031, 5, 6, tzinfo=UTC)


def question(kind: str, name: str = "example.com", *, wildcard: bool = False) -> ControlQuestion:
    return ControlQuestion(kind, AltName(AltNameKind.DNS, name), "t", f"t.{THUMBPRINT}", ACCOUNT, wildcard)


class TestAccountLabel:
    def test_by_an_example_that_others_use(self) -> None:
        # of draft -00 and of Boulder's tests
        assert account_label("https://example.com/acme/acct/ExampleAccount") == "_ujmmovf2vn55tgye"
        asked = ControlQuestion(
            "dns-account-01",
            AltName(AltNameKind.DNS, "*.example.com"),
            "t",
            "t.x",
            "https://example.com/acme/acct/ExampleAccount",
        )
        assert place_of(asked) == "_ujmmovf2vn55tgye._acme-challenge.example.com"

    @pytest_twisted.ensureDeferred
    async def test_the_record_of_the_own_account_proves(
        self, zone: dns_server.DnsServer, resolver: DnsResolver
    ) -> None:
        from twisted.internet import reactor

        asked = question("dns-account-01", "a.test", wildcard=True)
        asking = Validator(resolver=resolver, reactor=reactor)
        right = expected_text(asked.key_authorization)
        zone.add("_acme-challenge.a.test", "TXT", right)  # dns-01's place
        zone.add(f"{account_label(ACCOUNT + '4')}._acme-challenge.a.test", "TXT", right)  # another account's
        failed = await asking.validate(asked)
        assert isinstance(failed, FailedProof) and failed.kind is FailureKind.DNS
        zone.add(f"{account_label(ACCOUNT)}._acme-challenge.a.test", "CNAME", "x.other")
        zone.add("x.other", "TXT", "something else")
        zone.add("x.other", "TXT", right)
        assert await asking.validate(asked) is None


@pytest.mark.parametrize("kind", ["dns-account-01", "dns-persist-01"])
def test_neither_is_asked_for_addresses_or_without_an_account(kind: str) -> None:
    with pytest.raises(Unproven):
        check_question(ControlQuestion(kind, AltName(AltNameKind.IP, "10.0.0.1"), "t", "t.x", ACCOUNT))
    with pytest.raises(Unproven):
        check_question(ControlQuestion(kind, AltName(AltNameKind.DNS, "a.test"), "t", "t.x"))


def test_hashed_accounts_by_the_drafts_vectors() -> None:
    assert hashed_uri(PREFIX, "example.com", THUMBPRINT, ACCOUNT) == HASHED
    assert hashed_uri(PREFIX, "*", THUMBPRINT, ACCOUNT) == ANYWHERE


def judge(*texts: str, wildcard: bool = False, name: str = "example.com") -> FailedProof | ProvenUntil | None:
    evidence = TextEvidence(f"_validation-persist.{name}", tuple(text.encode() for text in texts))
    return judge_persistent(question("dns-persist-01", name, wildcard=wildcard), evidence, TERMS, NOW)


LATER = int((NOW + timedelta(days=3)).timestamp())
GOOD = f"authority.example; accounturi={HASHED}"


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"Authority.Example;accounturi={HASHED};",
        f"ca.example.net; accounturi={ANYWHERE}",
        f"ca.example.net; accounturi={ACCOUNT}",  # draft -01
        f"{GOOD}; policy=wildcard",
        f"{GOOD}; policy=whatever",
        f"{GOOD}; future=thing",
    ],
)
def test_a_record_that_proves(text: str) -> None:
    assert judge(text) is None
    assert judge("v=spf1 -all", "other.example; accounturi=https://other.example/1", "\xff;;", text) is None


def test_a_record_outlives_a_change_of_the_accounts_key() -> None:
    """Draft -02 §4.1: a record made with a key that the account had before proves; by the draft's own vector."""
    now = replace(question("dns-persist-01"), key_authorization="t." + "A" * 43)
    evidence = TextEvidence("_validation-persist.example.com", (GOOD.encode(),))
    for before, proven in (((), False), (("B" * 43,), False), (("B" * 43, THUMBPRINT), True)):
        judged = judge_persistent(replace(now, prior_keys=before), evidence, TERMS, NOW)
        assert (judged is None) == proven
    other = replace(now, prior_keys=(THUMBPRINT,), account_url=ACCOUNT + "4")
    assert isinstance(judge_persistent(other, evidence, TERMS, NOW), FailedProof), "another account that had the key"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("other.example; accounturi=" + HASHED, "none names this CA"),
        ("authority.example", "no accounturi"),
        (f"{GOOD}; accounturi={HASHED}", "more than one accounturi"),
        (f"authority.example; accounturi={ACCOUNT}4", "another account"),
        (f"authority.example; accounturi={HASHED.upper()}", "another account"),
        (f"authority.example; accounturi={HASHED.replace('sha-256', 'sha-1')}", "another account"),
        (f"{GOOD}; persistUntil={int(NOW.timestamp())}", "has ended"),
        (f"{GOOD}; persistUntil=0", "has ended"),
        (f"{GOOD}; persistUntil=-5", "no number"),
        (f"{GOOD}; persistUntil=1e9", "no number"),
        (f"{GOOD}; persistUntil={LATER}; persistUntil={LATER}", "more than one"),
        (f"{GOOD}; broken", "none names this CA"),
    ],
)
def test_a_record_that_does_not(text: str, word: str) -> None:
    failed = judge(text)
    assert isinstance(failed, FailedProof) and failed.kind is FailureKind.UNAUTHORIZED and word in failed.detail


def test_a_hash_for_another_domain_does_not_prove_this_one() -> None:
    assert isinstance(judge(GOOD, name="example.org"), FailedProof)
    assert judge(f"authority.example; accounturi={ANYWHERE}", name="example.org") is None


@pytest.mark.parametrize(
    ("policy", "proven"), [("", False), ("; policy=WildCard", True), ("; policy=x", False), ("; policy=", False)]
)
def test_wildcards_need_their_policy(policy: str, proven: bool) -> None:
    assert (judge(GOOD + policy, wildcard=True) is None) == proven
    asked = question("dns-persist-01", "*.example.com")  # the other way to say so
    evidence = TextEvidence("_validation-persist.example.com", ((GOOD + policy).encode(),))
    assert (judge_persistent(asked, evidence, TERMS, NOW) is None) == proven


def test_the_proof_ends_with_the_record_and_the_longest_one_counts() -> None:
    until = f"{GOOD}; persistUntil={LATER}"
    assert judge(until) == ProvenUntil(NOW + timedelta(days=3))
    assert judge(f"{GOOD}; persistUntil={LATER - 9}", until) == ProvenUntil(NOW + timedelta(days=3))
    assert judge(until, GOOD) is None
    assert judge(f"{GOOD}; persistUntil=999999999999999") is None


@pytest_twisted.ensureDeferred
async def test_persistent_records_over_dns(zone: dns_server.DnsServer, resolver: DnsResolver) -> None:
    from twisted.internet import reactor

    asking = Validator(resolver=resolver, reactor=reactor, persist=TERMS, clock=FixedClock(NOW))
    asked = question("dns-persist-01")
    failed = await asking.validate(asked)
    assert isinstance(failed, FailedProof) and failed.kind is FailureKind.DNS
    zone.add("_validation-persist.example.com", "TXT", '"other.example; accounturi=x:y"')
    failed = await asking.validate(asked)
    assert isinstance(failed, FailedProof) and "none names this CA" in failed.detail
    zone.add(
        "_validation-persist.example.com", "TXT", f'"authority.example;" " accounturi={HASHED[:40]}" "{HASHED[40:]}"'
    )
    assert await asking.validate(asked) is None
    without = Validator(resolver=resolver, reactor=reactor)
    assert isinstance(await without.validate(asked), FailedProof)
