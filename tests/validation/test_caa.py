"""CAA: what a set of records permits (pure), and which set is the relevant one (by a DNS server)."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st

from opencertd.model.names import AltName, AltNameKind
from opencertd.validation.caa import CaaRecord, CaaWish, why_forbidden
from opencertd.validation.issue_value import IssueValue, parse_issue_value
from opencertd.validation.resolver import DnsResolver
from opencertd.validation.validator import Validator
from opencertd.validation.verdict import ControlQuestion, FailureKind
from tests import dns_server
from tests.validation.test_http01 import KEY_AUTHORIZATION, TOKEN

ACCOUNT = "https://ca.example/acme/acct/1"
US = frozenset({"ca.example", "authority.example"})


def wish(*, wildcard: bool = False, method: str = "dns-01") -> CaaWish:
    return CaaWish(US, ACCOUNT, method, wildcard)


def records(*lines: str) -> tuple[CaaRecord, ...]:
    """`FLAGS TAG VALUE`, the value to the end of the line."""
    return tuple(CaaRecord(int(f), t, v.encode()) for f, t, v in ((*line.split(" ", 2), "")[:3] for line in lines))


PERMITTED = {
    "no property at all": (),
    "only where to report": ("0 iodef mailto:a@b.example",),
    "this CA": ("0 issue ca.example",),
    "this CA by its other name": ("0 issue authority.example",),
    "upper case": ("0 issue CA.Example",),
    "among others": ("0 issue other.example", "0 issue ca.example"),
    "with spaces and semicolons": ("0 issue  \t ca.example ; ",),
    "an unknown property that is not critical": ("0 tbs Unknown", "0 issue ca.example"),
    "an unknown parameter": ("0 issue ca.example; policy=ev",),
    "critical but known": ("128 issue ca.example",),
    "an unknown flag": ("1 future x", "0 issue ca.example"),
    "this account": (f"0 issue ca.example; accounturi={ACCOUNT}",),
    "this method": ("0 issue ca.example; validationmethods=http-01,dns-01",),
    "another record permits": (f"0 issue ca.example; accounturi={ACCOUNT}9", "0 issue ca.example"),
    "only wildcards are restricted": ("0 issuewild ;",),
}

FORBIDDEN = {
    "nobody": (("0 issue ;",), "do not name this CA"),
    "an empty value": (("0 issue",), "do not name"),
    "another CA": (("0 issue other.example",), "do not name"),
    "a subdomain of this CA": (("0 issue x.ca.example",), "do not name"),
    "malformed": (("0 issue %%%%",), "do not name"),
    "a malformed parameter": (("0 issue ca.example; accounturi",), "do not name"),
    "a critical property that is unknown": (("128 tbs x", "0 issue ca.example"), "critical property 'tbs'"),
    "another account": ((f"0 issue ca.example; accounturi={ACCOUNT}0",), "accounturi"),
    "two accounts": ((f"0 issue ca.example; accounturi={ACCOUNT}; accounturi={ACCOUNT}",), "more than one accounturi"),
    "another case of the account": ((f"0 issue ca.example; accounturi={ACCOUNT.upper()}",), "accounturi"),
    "a tag in another case": ((f"0 issue ca.example; AccountURI={ACCOUNT}0",), "accounturi"),
    "another method": (("0 issue ca.example; validationmethods=http-01",), "validationmethods"),
    "no method": (("0 issue ca.example; validationmethods=",), "validationmethods"),
    "two lists of methods": (
        ("0 issue ca.example; validationmethods=dns-01; validationmethods=dns-01",),
        "more than one validationmethods",
    ),
    "says why the record for this CA does not fit": (
        ("0 issue other.example", "0 issue ca.example; validationmethods=http-01"),
        "validationmethods",
    ),
}


@pytest.mark.parametrize("lines", PERMITTED.values(), ids=PERMITTED)
def test_permitted(lines: tuple[str, ...]) -> None:
    assert why_forbidden(records(*lines), wish()) is None


@pytest.mark.parametrize(("lines", "word"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_forbidden(lines: tuple[str, ...], word: str) -> None:
    reason = why_forbidden(records(*lines), wish())
    assert reason is not None and word in reason


@pytest.mark.parametrize(
    ("lines", "permitted"),
    [
        (("0 issue ca.example",), True),
        (("0 issue ;", "0 issuewild ca.example"), True),
        (("0 issue ca.example", "0 issuewild ;"), False),
        (("0 issuewild other.example",), False),
        (("0 issue ;",), False),
    ],
)
def test_issuewild_has_precedence_for_wildcards_and_says_nothing_else(lines: tuple[str, ...], permitted: bool) -> None:
    assert (why_forbidden(records(*lines), wish(wildcard=True)) is None) == permitted


@given(st.lists(st.tuples(st.integers(0, 255), st.sampled_from(["issue", "issuewild", "iodef", "x"]), st.binary())))
def test_no_octets_break_the_verdict_and_garbage_never_names_us(found: list[tuple[int, str, bytes]]) -> None:
    made = [CaaRecord(*each) for each in found]
    reason = why_forbidden(made, wish())
    if any(record.tag == "issue" for record in made):
        assert reason is not None


@given(
    st.from_regex(r"[a-z0-9]{1,8}(\.[a-z0-9]{1,8}){0,2}", fullmatch=True),
    st.lists(
        st.tuples(st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True), st.from_regex(r"[!-:<-~]{0,9}", fullmatch=True))
    ),
    st.sampled_from(["", " ", "\t "]),
)
def test_what_was_written_is_read(domain: str, parameters: list[tuple[str, str]], space: str) -> None:
    parts = [domain, *(f"{tag}{space}={space}{value}" for tag, value in parameters)]
    written = f"{space};{space}".join(parts)
    assert parse_issue_value(written.encode()) == IssueValue(domain, tuple(parameters))


class TestTheRelevantSet:
    @staticmethod
    async def ask(resolver: DnsResolver, name: str, **more: Any) -> str | None:
        from twisted.internet import reactor

        asking = Validator(resolver=resolver, reactor=reactor, caa_identities=US)
        question = ControlQuestion(
            "dns-01", AltName(AltNameKind.DNS, name), TOKEN, KEY_AUTHORIZATION, account_url=ACCOUNT, **more
        )
        failed = await asking.check_caa(question)
        if failed is None:
            return None
        assert failed.kind in (FailureKind.CAA, FailureKind.DNS)
        return f"{failed.kind.value}: {failed.detail}"

    @pytest_twisted.ensureDeferred
    async def test_is_the_nearest_one_above(self, zone: dns_server.DnsServer, resolver: DnsResolver) -> None:
        zone.add("example.test", "CAA", '0 issue "other.example"')
        zone.add("b.example.test", "CAA", '0 issue "ca.example"')
        assert await self.ask(resolver, "a.b.example.test") is None
        assert await self.ask(resolver, "b.example.test") is None
        told = await self.ask(resolver, "c.example.test")
        assert told == "caa: the CAA records of example.test do not name this CA"

    @pytest_twisted.ensureDeferred
    async def test_is_asked_to_the_top_and_may_be_missing(
        self, zone: dns_server.DnsServer, resolver: DnsResolver
    ) -> None:
        assert await self.ask(resolver, "a.b.test") is None
        assert [query.name for query in zone.queries if query.type == "CAA"] == ["a.b.test", "b.test", "test"]

    @pytest.mark.parametrize("follow", [True, False])
    @pytest_twisted.ensureDeferred
    async def test_is_that_of_an_aliases_target_then_that_above_the_alias(
        self, make_resolver: Any, follow: bool
    ) -> None:
        with dns_server.DnsServer(follow=follow) as zone:
            from opencertd.validation.resolver import DnsServer

            resolver = make_resolver(DnsServer("127.0.0.1", zone.port))
            zone.add("www.here.test", "CNAME", "host.there.test")
            zone.add("host.there.test", "A", "127.0.0.1")
            zone.add("there.test", "CAA", '0 issue ";"')  # above the target: not climbed to
            assert await self.ask(resolver, "www.here.test") is None
            zone.add("host.there.test", "CAA", '0 issue "other.example"')
            assert (await self.ask(resolver, "www.here.test") or "").startswith("caa: ")

    @pytest.mark.parametrize("behaviour", ["SERVFAIL", "REFUSED", "SILENCE"])
    @pytest_twisted.ensureDeferred
    async def test_without_an_answer_nothing_is_permitted(
        self, zone: dns_server.DnsServer, make_resolver: Any, behaviour: str
    ) -> None:
        from opencertd.validation.resolver import DnsServer

        resolver = make_resolver(DnsServer("127.0.0.1", zone.port), lifetime=0.5)
        zone.add("b.test", behaviour)
        told = await self.ask(resolver, "a.b.test")
        assert told is not None and told.startswith("dns: ") and "without CAA's answer" in told

    @pytest_twisted.ensureDeferred
    async def test_of_a_wildcard_is_that_of_its_base(self, zone: dns_server.DnsServer, resolver: DnsResolver) -> None:
        zone.add("b.test", "CAA", '0 issue "ca.example"')
        zone.add("b.test", "CAA", '0 issuewild ";"')
        assert await self.ask(resolver, "b.test") is None
        assert await self.ask(resolver, "b.test", wildcard=True) is not None

    @pytest_twisted.ensureDeferred
    async def test_an_unknown_critical_property_refuses(
        self, zone: dns_server.DnsServer, resolver: DnsResolver
    ) -> None:
        zone.add("b.test", "CAA", '128 future "x"')
        assert "future" in (await self.ask(resolver, "b.test") or "")

    @pytest_twisted.ensureDeferred
    async def test_is_judged_after_control_is_proven(self, zone: dns_server.DnsServer, resolver: DnsResolver) -> None:
        from twisted.internet import reactor

        from opencertd.validation.verdict import expected_text

        zone.add("_acme-challenge.a.test", "TXT", expected_text(KEY_AUTHORIZATION))
        question = ControlQuestion("dns-01", AltName(AltNameKind.DNS, "a.test"), TOKEN, KEY_AUTHORIZATION)
        asking = Validator(resolver=resolver, reactor=reactor, caa_identities=US)
        assert await asking.validate(question) is None
        zone.add("a.test", "CAA", '0 issue "other.example"')
        failed = await asking.validate(question)
        assert failed is not None and failed.kind is FailureKind.CAA  # type: ignore[union-attr]
        unasked = Validator(resolver=resolver, reactor=reactor)
        assert await unasked.validate(question) is None  # a CA without an identity does not look

    @pytest_twisted.ensureDeferred
    async def test_an_address_has_none(self, zone: dns_server.DnsServer, resolver: DnsResolver) -> None:
        from twisted.internet import reactor

        asking = Validator(resolver=resolver, reactor=reactor, caa_identities=US)
        question = ControlQuestion("http-01", AltName(AltNameKind.IP, "10.0.0.1"), TOKEN, KEY_AUTHORIZATION)
        assert await asking.check_caa(question) is None and zone.queries == []
