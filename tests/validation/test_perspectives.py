"""Several perspectives: who must agree, what is told when they do not, and that each looks from its own place."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from opencertd.model.names import AltName, AltNameKind
from opencertd.validation.perspectives import Perspective, SeveralPerspectives
from opencertd.validation.resolver import DnsServer
from opencertd.validation.validator import Validator
from opencertd.validation.verdict import ControlQuestion, FailedProof, FailureKind, ProvenUntil, expected_text
from tests import dns_server
from tests.validation.servers import FakeResolver, listening, site
from tests.validation.test_http01 import KEY_AUTHORIZATION, LOOPBACK, TOKEN, good_site

Answer = FailedProof | ProvenUntil | None

QUESTION = ControlQuestion("dns-01", AltName(AltNameKind.DNS, "a.test"), TOKEN, KEY_AUTHORIZATION)
FAILED = FailedProof(FailureKind.DNS, "no record here")


class Says:
    """A validator that says what it is told to."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked = 0

    async def validate(self, question: ControlQuestion) -> Answer:
        self.asked += 1
        return self.answer

    async def check_caa(self, question: ControlQuestion) -> FailedProof | None:
        self.asked += 1
        return self.answer if isinstance(self.answer, FailedProof) else None


def several(own: Answer, others: list[Answer], quorum: int) -> tuple[SeveralPerspectives, list[Says]]:
    said = [Says(answer) for answer in others]
    named = [Perspective(f"place {at}", each) for at, each in enumerate(said)]
    return SeveralPerspectives(Says(own), named, quorum=quorum), said


@given(st.booleans(), st.lists(st.booleans(), max_size=6), st.integers(0, 6))
def test_the_own_view_and_a_quorum_must_agree(own: bool, others: list[bool], quorum: int) -> None:
    quorum = min(quorum, len(others))
    asking, said = several(None if own else FAILED, [None if good else FAILED for good in others], quorum)
    for look in (asking.validate, asking.check_caa):
        found = Deferred.fromCoroutine(look(QUESTION))
        assert (found.result is None) == (own and sum(others) >= quorum)
        if not own:
            assert found.result == FAILED and not any(each.asked for each in said)  # nobody else need look


@pytest.mark.parametrize("quorum", [-1, 3])
def test_a_quorum_that_cannot_be_reached_is_no_setting(quorum: int) -> None:
    with pytest.raises(ValueError, match="cannot agree"):
        several(None, [None, None], quorum)


@pytest_twisted.ensureDeferred
async def test_what_is_missing_is_told_by_place() -> None:
    asking, _ = several(None, [None, FAILED, FAILED], 2)
    failed = await asking.validate(QUESTION)
    assert isinstance(failed, FailedProof) and failed.kind is FailureKind.DNS
    assert "only 1 of its 3 further perspectives did, and 2 must: from place 1: no record here" in failed.detail


@pytest_twisted.ensureDeferred
async def test_the_earliest_end_counts() -> None:
    early, late = (ProvenUntil(datetime(2031, month, 1, tzinfo=UTC)) for month in (1, 2))
    asking, _ = several(late, [early, FAILED, None], 2)
    assert await asking.validate(QUESTION) == early


@pytest_twisted.ensureDeferred
async def test_being_cancelled_is_no_verdict() -> None:
    class Hangs(Says):
        async def validate(self, question: ControlQuestion) -> Answer:
            return await Deferred()

    asking = SeveralPerspectives(Says(None), [Perspective("x", Hangs(None)), Perspective("y", Says(None))], quorum=1)
    running = Deferred.fromCoroutine(asking.validate(QUESTION))
    running.cancel()
    with pytest.raises(CancelledError):
        await running


@pytest_twisted.ensureDeferred
async def test_further_resolvers_see_what_one_poisoned_resolver_hides(make_resolver: Any) -> None:
    from twisted.internet import reactor

    with dns_server.DnsServer() as poisoned, dns_server.DnsServer() as honest:
        poisoned.add("_acme-challenge.a.test", "TXT", expected_text(KEY_AUTHORIZATION))
        honest.add("_acme-challenge.a.test", "TXT", "the holder's own record")
        own, other = (
            Validator(resolver=make_resolver(DnsServer("127.0.0.1", zone.port)), reactor=reactor)
            for zone in (poisoned, honest)
        )
        assert await own.validate(QUESTION) is None
        failed = await SeveralPerspectives(own, [Perspective("far", other)], quorum=1).validate(QUESTION)
        assert isinstance(failed, FailedProof) and "from far: " in failed.detail


@pytest_twisted.ensureDeferred
async def test_a_perspective_connects_and_asks_from_its_own_address(make_resolver: Any) -> None:
    from twisted.internet import reactor

    seen: list[str] = []
    web = good_site()
    page = web.pages[f"/.well-known/acme-challenge/{TOKEN}"]

    def note(request: Any) -> Any:
        seen.append(request.getClientAddress().host)
        return page(request)

    web.pages[f"/.well-known/acme-challenge/{TOKEN}"] = note
    source = (ip_address("127.0.0.7"),)
    asked = ControlQuestion("http-01", AltName(AltNameKind.DNS, "a.test"), TOKEN, KEY_AUTHORIZATION)
    with dns_server.DnsServer() as zone, listening(site(web)) as port:
        zone.add("a.test", "A", "127.0.0.1")
        zone.add("a.test", "AAAA", "::1")  # a family that this perspective has no address of
        resolver = make_resolver(DnsServer("127.0.0.1", zone.port), sources=source)
        asking = Validator(resolver=resolver, reactor=reactor, http01_port=port, allow=LOOPBACK, sources=source)
        assert await asking.validate(asked) is None
        assert seen == ["127.0.0.7"] and set(zone.askers) == {"127.0.0.7"}
    only_ipv6 = Validator(
        resolver=FakeResolver({"a.test": ["::1"]}), reactor=reactor, http01_port=port, allow=LOOPBACK, sources=source
    )
    failed = await only_ipv6.validate(asked)
    assert isinstance(failed, FailedProof) and "no address of a family" in failed.detail
