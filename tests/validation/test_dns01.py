"""dns-01 with the real resolver and a DNS server on loopback."""

from __future__ import annotations

import pytest
import pytest_twisted

from opencertd.model.names import AltName, AltNameKind
from opencertd.validation.resolver import DnsResolver
from opencertd.validation.validator import Validator
from opencertd.validation.verdict import ControlQuestion, FailedProof, FailureKind, expected_text
from tests import dns_server

KEY_AUTHORIZATION = "token.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
RIGHT = expected_text(KEY_AUTHORIZATION)


async def ask(resolver: DnsResolver, name: str = "a.test") -> FailedProof | None:
    from twisted.internet import reactor

    question = ControlQuestion("dns-01", AltName(AltNameKind.DNS, name), "token", KEY_AUTHORIZATION)
    return await Validator(resolver=resolver, reactor=reactor).validate(question)


@pytest.mark.parametrize("name", ["a.test", "*.a.test"])
@pytest_twisted.ensureDeferred
async def test_one_right_record_among_others_proves_a_name_and_its_wildcard(
    zone: dns_server.DnsServer, resolver: DnsResolver, name: str
) -> None:
    for value in ("A" * 43, RIGHT, '"v=spf1 " "-all"'):
        zone.add("_acme-challenge.a.test", "TXT", value)
    assert await ask(resolver, name) is None


@pytest_twisted.ensureDeferred
async def test_the_challenge_may_be_delegated_by_cname(zone: dns_server.DnsServer, resolver: DnsResolver) -> None:
    zone.add("_acme-challenge.a.test", "CNAME", "a.challenges.other")
    zone.add("a.challenges.other", "TXT", f'"{RIGHT[:20]}" "{RIGHT[20:]}"')
    assert await ask(resolver) is None


@pytest_twisted.ensureDeferred
async def test_a_record_of_the_name_itself_does_not_count(zone: dns_server.DnsServer, resolver: DnsResolver) -> None:
    zone.add("a.test", "TXT", RIGHT)
    failed = await ask(resolver)
    assert failed is not None and failed.kind is FailureKind.DNS
    assert "_acme-challenge.a.test" in failed.detail and "is the record set" in failed.detail


@pytest_twisted.ensureDeferred
async def test_wrong_records_are_counted_and_the_right_one_is_named(
    zone: dns_server.DnsServer, resolver: DnsResolver
) -> None:
    zone.add("_acme-challenge.a.test", "TXT", "wrong")
    failed = await ask(resolver)
    assert failed == FailedProof(
        FailureKind.INCORRECT_RESPONSE, f"1 TXT record at _acme-challenge.a.test; none is {RIGHT}"
    )


@pytest.mark.parametrize("behaviour", ["SERVFAIL", "REFUSED"])
@pytest_twisted.ensureDeferred
async def test_a_failing_server_is_a_failure_of_dns_without_the_hint_to_set_a_record(
    zone: dns_server.DnsServer, resolver: DnsResolver, behaviour: str
) -> None:
    zone.add("_acme-challenge.a.test", behaviour)
    failed = await ask(resolver)
    assert failed is not None and failed.kind is FailureKind.DNS
    assert behaviour in failed.detail and "is the record set" not in failed.detail


@pytest_twisted.ensureDeferred
async def test_the_same_name_served_by_http_needs_the_resolvers_addresses_only(
    zone: dns_server.DnsServer, resolver: DnsResolver
) -> None:
    zone.add("a.test", "A", "127.0.0.1")
    from twisted.internet import reactor

    question = ControlQuestion("http-01", AltName(AltNameKind.DNS, "a.test"), "token", KEY_AUTHORIZATION)
    failed = await Validator(resolver=resolver, reactor=reactor).validate(question)
    assert failed is not None and "a.test is at 127.0.0.1 (a loopback address)" in failed.detail
