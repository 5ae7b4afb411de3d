"""Names as people write them, and when two of them are the same."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from opencertd.asn1.dn import ATTRIBUTES, canonical, format_dn, normal, parse_dn

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


UNFIT = [
    ("2.5.4.5", "who@a.test", "letters and digits"),
    ("2.5.4.5", "*.a.test", "letters and digits"),
    ("2.5.4.6", "D@", "letters and digits"),
    ("2.5.4.46", "a_b", "letters and digits"),
    ("1.3.6.1.4.1.311.60.2.1.3", "D@", "letters and digits"),
    ("1.2.840.113549.1.9.1", "é@a.test", "ASCII"),
    ("0.9.2342.19200300.100.1.25", "é", "label"),
    ("0.9.2342.19200300.100.1.25", "who@a.test", "label"),
    ("2.5.4.5", "1" * 65, "64 is the most"),
    ("2.5.4.10", "x" * 65, "64 is the most"),
    ("2.5.4.17", "x" * 41, "40 is the most"),
    ("0.9.2342.19200300.100.1.1", "x" * 257, "256 is the most"),
    ("2.5.4.65", "x" * 129, "128 is the most"),
    ("2.5.4.41", "x" * 32769, "32768 is the most"),
]


@pytest.mark.parametrize(("oid", "value", "words"), UNFIT)
def test_a_value_that_its_attribute_cannot_hold(oid: str, value: str, words: str) -> None:
    name = x509.Name([x509.NameAttribute(x509.ObjectIdentifier(oid), value)])
    with pytest.raises(ValueError, match=words):
        normal(name)


def test_a_value_of_bits() -> None:
    bits = x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, b"\0\1", x509.name._ASN1Type.BitString)
    with pytest.raises(ValueError, match="not text"):
        normal(x509.Name([bits]))


@given(
    st.sampled_from(sorted(set(ATTRIBUTES.values()), key=str)),
    st.one_of(st.text(max_size=70), st.text(" '()+,-./:=?@*&_abzAZ09é", max_size=70)),
)
def test_what_is_normal_can_be_encoded_and_read_again(oid: x509.ObjectIdentifier, value: str) -> None:
    try:
        name = normal(x509.Name([x509.NameAttribute(oid, value)]))
    except ValueError as error:
        assert str(error)
        return
    key = ed25519.Ed25519PrivateKey.generate()
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, None)
    assert csr.subject == name
