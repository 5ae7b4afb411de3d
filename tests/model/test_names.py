"""One normal form for every name, and no name that another program would read as something else."""

from __future__ import annotations

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.profiles import general_name
from opencertd.model.names import DEVICE_KINDS, AltName, AltNameKind, parse_alt_name, parse_dns_name
from opencertd.model.requester import NameGrant


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("*.Example.com", "*.example.com"),
        ("localhost", "localhost"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("a-b.c1", "a-b.c1"),
        ("1.2.3.4.example", "1.2.3.4.example"),
        ("a" * 63 + ".b", "a" * 63 + ".b"),
    ],
)
def test_good_dns_names(text: str, value: str) -> None:
    assert parse_dns_name(text) == AltName(AltNameKind.DNS, value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a..b",
        ".a",
        "a" * 64 + ".b",
        "-a.b",
        "a-.b",
        "a_b.c",
        "a b.c",
        "bücher.example",
        "\u212aube.example",  # the Kelvin sign, which str.lower makes a k
        "xn--0",
        "xn--a",
        "ab--c.d",
        "0x7f.0.0.1",
        "127.0.0.1",
        "::1",
        "[::1]",
        "2130706433",
        "a.0x1f",
        "a.*.b",
        "*",
        "*.",
        "**.a",
        "*a.b",
        "*.*.a",
        "*.192.0.2.1",
        ".".join(["a" * 60] * 5),
        "a.b\n",
        "a.b\0",
    ],
)
def test_bad_dns_names(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_dns_name(text)
    assert caught.value.kind is RefusalKind.MALFORMED


@given(st.sampled_from(AltNameKind), st.text(max_size=300))
def test_any_text_is_a_name_in_normal_form_or_refused(kind: AltNameKind, text: str) -> None:
    try:
        name = parse_alt_name(kind, text)
    except Refusal as refusal:
        assert refusal.kind is RefusalKind.MALFORMED
    else:
        assert parse_alt_name(kind, name.value) == name
        assert name.value.isascii() or kind in DEVICE_KINDS


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *(
            (AltNameKind.EMAIL, f"{local}@a.test")
            for local in ("a,b", "<a>", "(a)b", '"a b"', ".a", "a.", "a..b", "a@b", "")
        ),
        *((AltNameKind.URI, text) for text in ("x:", "http://a.test/<>", "http://a.test/%zz", "http://[::1/", "x:[")),
        *(
            (AltNameKind.URI, text)
            for text in ("http://a.test:x/", "http://:80/", "http://a.test:99999/", "http://[x]/")
        ),
    ],
)
def test_what_clients_could_read_in_two_ways_or_none(kind: AltNameKind, text: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_alt_name(kind, text)
    assert caught.value.kind is RefusalKind.MALFORMED


@pytest.mark.parametrize(
    "text",
    ["spiffe://a.test/x", "urn:uuid:1", "http://u@[2001:db8::1]:80/?q#f", "mailto:a@b.test", "https://a.test/%2F;x=1"],
)
def test_uris(text: str) -> None:
    assert parse_alt_name(AltNameKind.URI, text).value == text


@given(st.sampled_from(AltNameKind), st.text("ab@.,:;<>()[]\"' \\/%0*", max_size=12))
def test_a_name_in_normal_form_can_be_in_a_certificate(kind: AltNameKind, text: str) -> None:
    for whole in (text, f"{text}@a.test", f"x:{text}", f"http://{text}"):
        try:
            name = parse_alt_name(kind, whole)
        except Refusal:
            continue
        x509.SubjectAlternativeName([general_name(name)]).public_bytes()


def dns(value: str) -> AltName:
    return AltName(AltNameKind.DNS, value)


@pytest.mark.parametrize(
    ("pattern", "name", "covered"),
    [
        ("*", dns("a.b"), True),
        ("*", AltName(AltNameKind.IP, "10.0.0.1"), True),
        ("*.example.com", dns("a.example.com"), True),
        ("*.example.com", dns("a.b.example.com"), True),
        ("*.example.com", dns("*.example.com"), False),
        ("*.example.com", dns("*.a.example.com"), True),
        ("*.example.com", dns("example.com"), False),
        ("*.example.com", dns("badexample.com"), False),
        ("*.example.com", AltName(AltNameKind.EMAIL, "me@a.example.com"), False),
        ("*.example.com", AltName(AltNameKind.URI, "http://evil/.example.com"), False),
        ("Example.com", dns("example.com"), True),
        ("example.com", dns("a.example.com"), False),
    ],
)
def test_patterns(pattern: str, name: AltName, covered: bool) -> None:
    assert NameGrant(patterns=(pattern,)).covers(name) is covered
