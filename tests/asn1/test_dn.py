"""Names as people write them, and when two of them are the same."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from opencertd.asn1.dn import ATTRIBUTES, canonical, format_dn, parse_dn

VALUES = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=30).filter(
    lambda value: bool(value.strip()) and len(value.encode()) <= 64  # as `cryptography` counts RFC 5280's upper bounds
)


@given(st.lists(st.tuples(st.sampled_from(["CN", "O", "OU", "L", "ST"]), VALUES), min_size=1, max_size=4))
def test_what_is_shown_is_read_back(parts: list[tuple[str, str]]) -> None:
    name = x509.Name([x509.NameAttribute(ATTRIBUTES[keyword], value) for keyword, value in parts])
    assert canonical(parse_dn(format_dn(name))) == canonical(name)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("CN=a\\ ", "a "),
        ("CN= a  ", "a"),
        ("CN=a\\\\ ", "a\\"),
        ("CN=\\ a", " a"),
        ("CN=a\\,b\\+c", "a,b+c"),
        ("CN=Lu\\C4\\8Di\\C4\\87", "Lučić"),
        ("CN=a=b", "a=b"),
    ],
)
def test_escapes(text: str, value: str) -> None:
    (attribute,) = parse_dn(text)
    assert attribute.value == value


def test_the_last_written_is_encoded_first() -> None:
    name = parse_dn("CN=My CA, O=Example, C=de")
    assert [attribute.oid for attribute in name] == [
        NameOID.COUNTRY_NAME,
        NameOID.ORGANIZATION_NAME,
        NameOID.COMMON_NAME,
    ]
    assert format_dn(name) == "CN=My CA,O=Example,C=DE"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("My CA", "KEYWORD=value"),
        ("CN=", "no value"),
        ("XX=a", "not a known attribute"),
        ("C=DEU", "C:"),
        ("CN=a,", "KEYWORD=value"),
        ("CN=\\FF\\FE", "utf-8"),
        ("CN=" + "a" * 65, "CN:"),
    ],
)
def test_faults_are_said(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_dn(text)


def test_same_names() -> None:
    base = canonical(parse_dn("CN=My CA,O=Example"))
    assert canonical(parse_dn("CN=my  ca,O=EXAMPLE")) == base
    for other in ("CN=My CA", "O=Example,CN=My CA", "CN=My CA+O=Example", "CN=My CB,O=Example"):
        assert canonical(parse_dn(other)) != base
