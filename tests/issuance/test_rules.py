"""Rules are sets of names: what lies inside is allowed, what touches is denied, and refusals name the rule."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencertd.asn1.dn import parse_dn
from opencertd.errors import Refusal, RefusalKind
from opencertd.first_start import run_now
from opencertd.issuance.rules import Policy, RequesterMatch, normal_uri, parse_rule, parse_subject_rule
from opencertd.model.names import AltName, AltNameKind
from opencertd.model.requester import Proof
from tests.ca import dns, make_ca, request, requester

DNS, IP, EMAIL, URI = AltNameKind.DNS, AltNameKind.IP, AltNameKind.EMAIL, AltNameKind.URI

COVERED = [
    (DNS, "a.test", ["a.test"], ["b.a.test", "*.a.test", "*.test", "xa.test"]),
    (
        DNS,
        ".a.test",
        ["b.a.test", "c.b.a.test", "*.a.test", "*.b.a.test"],
        ["a.test", "*.test", "xa.test", "b.xa.test"],
    ),
    (DNS, "*.a.test", ["b.a.test", "*.a.test"], ["a.test", "c.b.a.test", "*.b.a.test", "*.test"]),
    (DNS, "*", ["a.test", "*.a.test", "localhost"], []),
    (DNS, "A.TEST.", ["a.test"], ["b.test"]),
    (IP, "10.0.0.0/8", ["10.1.2.3", "::ffff:10.1.2.3"], ["11.0.0.1", "::1", "::10.1.2.3"]),
    (IP, "192.0.2.1", ["192.0.2.1"], ["192.0.2.2"]),
    (IP, "2001:db8::/32", ["2001:db8::1"], ["2001:db9::1", "10.0.0.1"]),
    (EMAIL, "a@x.test", ["a@x.test", "A@x.test"], ["b@x.test", "a@y.x.test"]),
    (EMAIL, "@x.test", ["a@x.test"], ["a@y.x.test", "a@xx.test"]),
    (EMAIL, "@.x.test", ["a@y.x.test"], ["a@x.test", "a@yx.test"]),
    (
        URI,
        "https://x.test/a",
        ["https://x.test/a", "HTTPS://X.test:443/%61"],
        ["https://x.test/a/b", "https://x.test/A"],
    ),
    (
        URI,
        "https://x.test/a/*",
        ["https://x.test/a/b", "https://u@x.test/b/../a/c", "https://x.test/./a/"],
        ["https://x.test/a", "https://x.test/a/../b", "https://x.test/a/%2e%2E/b", "https://x.test.evil/a/b"],
    ),
    (URI, "urn:uuid:*", ["urn:uuid:1"], ["urn:uuidx:1", "urn:oid:1"]),
]


@pytest.mark.parametrize(("kind", "text", "inside", "outside"), COVERED, ids=[f"{k.value} {t}" for k, t, *_ in COVERED])
def test_what_lies_inside(kind: AltNameKind, text: str, inside: list[str], outside: list[str]) -> None:
    rule = parse_rule(kind, text)
    assert [name for name in inside if not rule.covers(name)] == []
    assert [name for name in outside if rule.covers(name)] == []
    assert all(rule.touches(name) for name in inside), "what lies inside is touched"


@pytest.mark.parametrize(
    ("text", "name", "touched"),
    [
        ("secret.a.test", "*.a.test", True),
        ("secret.b.a.test", "*.a.test", False),
        (".a.test", "*.a.test", True),
        (".b.a.test", "*.a.test", False),
        ("*.a.test", "*.a.test", True),
        ("a.test", "*.a.test", False),
    ],
)
def test_a_wildcard_is_denied_with_any_name_it_stands_for(text: str, name: str, touched: bool) -> None:
    assert parse_rule(DNS, text).touches(name) is touched


LABEL = st.sampled_from(["a", "b", "c", "xa"])
HOST = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
RULE = st.one_of(HOST, HOST.map(lambda host: f".{host}"), HOST.map(lambda host: f"*.{host}"))


@given(RULE, HOST)
def test_wildcards_agree_with_the_names_they_stand_for(text: str, base: str) -> None:
    """`covers` means for all, `touches` for any, over every label that any rule here could name."""
    rule = parse_rule(DNS, text)
    below = [f"{label}.{base}" for label in ("a", "b", "c", "xa", "other")]
    if rule.covers(f"*.{base}"):
        assert all(rule.covers(name) for name in below)
    assert rule.touches(f"*.{base}") is any(rule.touches(name) for name in below)


@given(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4))
def test_ranges_hold_as_the_library_says(
    base: ipaddress.IPv4Address, bits: int, address: ipaddress.IPv4Address
) -> None:
    network = ipaddress.ip_network((base, bits), strict=False)
    assert parse_rule(IP, str(network)).covers(str(address)) is (address in network)


@given(st.text(max_size=40))
def test_whatever_is_written_parses_or_is_refused_in_words(text: str) -> None:
    for kind in AltNameKind:
        try:
            parse_rule(kind, text)
        except ValueError as error:
            assert str(error)


URIS = st.from_regex(r"[a-zA-Z][a-z+]{0,4}:(//[a-zA-Z@.%]{0,12}(:[0-9]{0,3})?)?(/[!-~]{1,30})?", fullmatch=True)


@given(URIS)
def test_the_normal_form_of_a_uri_is_its_own_normal_form(text: str) -> None:
    assert normal_uri(normal_uri(text)) == normal_uri(text)


@given(st.from_regex(r"[a-z./%2eE]{0,30}", fullmatch=True), st.from_regex(r"[a-z./%2eE]{0,30}", fullmatch=True))
def test_no_dots_lead_out_of_a_beginning(before: str, after: str) -> None:
    rule = parse_rule(URI, "https://x.test/in/*")
    found = rule.covers(f"https://x.test/{before}/in/{after}")
    steps = [part for part in re.sub("%2e", ".", f"{before}/in/{after}", flags=re.I).split("/") if part != "."]
    place: list[str] = []
    for step in steps:
        if step == "..":
            place = place[:-1]
        else:
            place.append(step)
    last_is_dots = re.sub("%2e", ".", after, flags=re.I).split("/")[-1] in (".", "..")
    assert found is (place[:1] == ["in"] and (len(place) > 1 or last_is_dots))


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        (DNS, "a..test", "empty"),
        (DNS, "*.*.test", "wildcard"),
        (DNS, "10.0.0.1", "IP address"),
        (IP, "10.0.0.1/8", "host bits"),
        (EMAIL, "x.test", "e-mail rule"),
        (EMAIL, "a@.x.test", "no single mailbox"),
        (URI, "https://x.test*", "/ or :"),
        (URI, "https://*.x.test/", "one * at the end"),
        (URI, "x.test", "URI rule"),
    ],
)
def test_rules_that_mean_nothing(kind: AltNameKind, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("*", r"\*")):
        parse_rule(kind, text)


@pytest.mark.parametrize(
    ("rule", "subject", "fits"),
    [
        ("O=Example", "CN=a,O=EXAMPLE", True),
        ("O=Example,C=DE", "CN=a,O=Example", False),
        ("O=Example,C=DE", "CN=a,O=Example,C=DE", True),
        ("CN=device-*", "CN=Device-17", True),
        ("CN=device-*", "CN=a,O=device-17", False),
        ("CN=a[bc]", "CN=ab", False),
        ("CN=a[bc]", "CN=a[bc]", True),
        ("CN=a?", "CN=ab", False),
    ],
)
def test_subject_rules(rule: str, subject: str, fits: bool) -> None:
    assert parse_subject_rule(rule).matches(parse_dn(subject)) is fits


NAMES = st.one_of(
    st.builds(AltName, st.just(DNS), st.one_of(HOST, HOST.map(lambda host: f"*.{host}"))),
    st.builds(AltName, st.just(IP), st.ip_addresses().map(str)),
    st.builds(AltName, st.just(EMAIL), HOST.map(lambda host: f"a@{host}")),
)
RULES = st.one_of(
    RULE.map(lambda text: parse_rule(DNS, text)),
    st.sampled_from(["0.0.0.0/1", "128.0.0.0/1", "::/0"]).map(lambda text: parse_rule(IP, text)),
    HOST.map(lambda host: parse_rule(EMAIL, f"@{host}")),
)


@given(NAMES, st.lists(RULES, max_size=4).map(tuple), st.lists(RULES, max_size=4).map(tuple))
def test_deny_wins_and_an_allow_rule_of_the_kind_refuses_the_rest(name: AltName, allow: Any, deny: Any) -> None:
    why = Policy("[policy]", allow, deny).why_not(name.kind, name.value)
    denied = [rule for rule in deny if rule.kind == name.kind.value and rule.touches(name.value)]
    allowing = [rule for rule in allow if rule.kind == name.kind.value]
    if denied:
        assert why is not None and why.startswith("denied") and repr(denied[0].text) in why
    elif allowing and not any(rule.covers(name.value) for rule in allowing):
        assert why is not None and repr(allowing[0].text) in why and "[policy]" in why
    else:
        assert why is None


def test_who_is_meant() -> None:
    who = requester(id="u1", label="Printer 1", roles=frozenset({"ra"}))
    for match, fits in (
        (RequesterMatch(proof=Proof.PASSWORD), True),
        (RequesterMatch(proof=Proof.ACME_ACCOUNT), False),
        (RequesterMatch(id="u*"), True),
        (RequesterMatch(id="u"), False),
        (RequesterMatch(label="Printer *", role="ra"), True),
        (RequesterMatch(label="Printer *", role="operator"), False),
        (RequesterMatch(id="[u]1"), False),
    ):
        assert match.matches(who) is fits


RULES_FILE = """
[policy]
allow.dns = [".a.test"]
deny.dns = ["ca.a.test"]
deny.subject = ["CN=root*"]
[profiles.web]
like = "tls-server"
[profiles.web.policy]
deny.dns = [".secret.a.test"]
allow.ip = ["10.0.0.0/8"]
[[policy.requester]]
proof = "password"
id = "printers"
allow.dns = [".printers.a.test"]
deny.email = ["*"]
"""
CA = make_ca(rules=RULES_FILE)
PRINTERS = requester(id="printers")

VERDICTS: list[tuple[dict[str, Any], str | None]] = [
    ({"names": dns("x.a.test")}, None),
    ({"names": dns("x.b.test")}, "'.a.test' of [policy]"),
    ({"names": dns("*.a.test")}, "'ca.a.test' of [policy]"),
    ({"names": dns("x.secret.a.test")}, None),
    ({"names": dns("x.secret.a.test"), "profile": "web"}, "'.secret.a.test' of [profiles.web.policy]"),
    ({"names": (AltName(IP, "10.0.0.1"),), "profile": "web"}, None),
    ({"names": (AltName(IP, "11.0.0.1"),), "profile": "web"}, "[profiles.web.policy]"),
    ({"names": (AltName(IP, "11.0.0.1"),)}, None),
    ({"names": dns("x.a.test"), "requester": PRINTERS}, "[[policy.requester]] number 1"),
    ({"names": dns("x.printers.a.test"), "requester": PRINTERS}, None),
    ({"names": (AltName(EMAIL, "a@x.test"),), "requester": PRINTERS}, "'*' of [[policy.requester]] number 1"),
    ({"subject": parse_dn("CN=ca.a.test"), "names": ()}, "'ca.a.test' of [policy]"),
    ({"subject": parse_dn("CN=CA.A.test."), "names": ()}, "'ca.a.test' of [policy]"),
    ({"subject": parse_dn("CN=x.b.test"), "names": ()}, "'.a.test' of [policy]"),
    ({"subject": parse_dn("CN=Jane Doe"), "names": ()}, None),
    ({"subject": parse_dn("CN=Root of all"), "names": ()}, "'CN=root*' of [policy]"),
]


@pytest.mark.parametrize(("changes", "words"), VERDICTS)
def test_levels(changes: dict[str, Any], words: str | None) -> None:
    asked = request(**{"subject": parse_dn("O=Testers"), **changes})
    if words is None:
        run_now(CA.authority.issue(asked))
        return
    with pytest.raises(Refusal) as caught:
        run_now(CA.authority.issue(asked))
    assert caught.value.kind is RefusalKind.REJECTED_NAME
    assert words.split("' of ")[0] in caught.value.detail and words.split(" of ")[-1] in caught.value.detail


def test_the_daemon_names_itself_whatever_the_rules() -> None:
    daemon = requester(proof=Proof.DAEMON, id="daemon")
    run_now(CA.authority.issue(request(profile="daemon-tls", names=dns("localhost"), requester=daemon)))
