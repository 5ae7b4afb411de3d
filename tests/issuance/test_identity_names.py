"""What a manufacturer says of a device becomes the names that the rules make of it, and never more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from opencertd.asn1.other_names import general_name
from opencertd.issuance.identity_names import grant_for, parse_name_rule
from opencertd.model.names import AltName, AltNameKind, parse_alt_name

KEY = ec.generate_private_key(ec.SECP256R1())
NOW = datetime(2026, 5, 1, tzinfo=UTC)
N = x509.NameOID


def idevid(*subject: tuple[x509.ObjectIdentifier, str], names: tuple[x509.GeneralName, ...] = ()) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(oid, value, _validate=False) for oid, value in subject])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(KEY, hashes.SHA256())


MODULE = general_name(parse_alt_name(AltNameKind.HARDWARE_MODULE, "SN17/1.3.6.1.4.1.9999.1"))
DEVICE = idevid(
    (N.ORGANIZATION_NAME, "Maker"), (N.COMMON_NAME, "Sensor 5"), (N.SERIAL_NUMBER, "Ab-17"), names=(MODULE,)
)


def made(certificate: x509.Certificate, *rules: str) -> set[str]:
    grant = grant_for(certificate, map(parse_name_rule, rules))
    return {str(name) for name in grant.names} | {f"cn:{value}" for value in grant.common_names}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("dns:{serialNumber}.devices.example.com", "dns:ab-17.devices.example.com"),
        ("dns:{SERIALNUMBER}.example.com", "dns:ab-17.example.com"),
        ("dns:{hardware-serial}.example.com", "dns:sn17.example.com"),
        ("uri:urn:dev:ops:9999-{serialNumber}", "uri:urn:dev:ops:9999-Ab-17"),
        ("email:{serialNumber}@devices.example.com", "email:Ab-17@devices.example.com"),
        ("hardware-module:{hardware-module}", "hardware-module:SN17/1.3.6.1.4.1.9999.1"),
        ("permanent-identifier:{serialNumber}/1.2.3", "permanent-identifier:Ab-17/1.2.3"),
        ("common-name:{CN}", "cn:sensor 5"),
        ("common-name:{serialNumber}", "cn:ab-17"),
        ("common-name:device-{serialNumber}", "cn:device-ab-17"),
        ("common-name:{serialNumber}.devices.example.com", "cn:ab-17.devices.example.com"),
        ("dns:{serialNumber}.{O}.example.com", "dns:ab-17.maker.example.com"),
    ],
)
def test_rules_make_names(rule: str, expected: str) -> None:
    assert made(DEVICE, rule) == {expected}


def test_what_the_certificate_does_not_say_makes_no_name() -> None:
    assert made(DEVICE, "dns:{OU}.example.com", "dns:{dns}", "email:{email}") == set()
    assert made(DEVICE, "dns:{CN}.example.com") == set(), "a space is in no host name"


def test_what_it_says_twice_makes_no_name() -> None:
    twice = idevid((N.SERIAL_NUMBER, "1"), (N.SERIAL_NUMBER, "2"), (N.COMMON_NAME, "x"))
    assert made(twice, "common-name:{serialNumber}", "common-name:{CN}") == {"cn:x"}


@pytest.mark.parametrize(
    "value",
    ["*", "a.b", ".", "a.", "-a", "a-", "a/b", "a@b", "a:b", "../x", "a b", "a\u200bb", "", "x" * 201, "a,b", "ä"],
)
def test_a_value_cannot_leave_its_place(value: str) -> None:
    device = idevid((N.COMMON_NAME, value or " "))
    rules = ("dns:{CN}.example.com", "uri:spiffe://example.com/{CN}/x", "email:{CN}@example.com", "common-name:d-{CN}")
    assert made(device, *rules) == set()


@pytest.mark.parametrize("value", ["*.example.com", "*", "exa mple.com", "10.0.0.1"])
def test_a_manufacturer_gives_out_no_wildcards(value: str) -> None:
    assert made(idevid((N.COMMON_NAME, value)), "dns:{CN}") == set()


@pytest.mark.parametrize("value", ["www.example.com", "10.0.0.1", "::1", "root@example.com", " x", "a\x1bb"])
def test_a_value_alone_is_no_address(value: str) -> None:
    assert made(idevid((N.COMMON_NAME, value)), "common-name:{CN}") == set()


def test_a_name_of_the_certificate_may_be_taken_over() -> None:
    device = idevid((N.COMMON_NAME, "x"), names=(x509.DNSName("a.maker.example"), MODULE))
    assert made(device, "dns:{dns}", "hardware-module:{hardware-module}") == {
        "dns:a.maker.example",
        "hardware-module:SN17/1.3.6.1.4.1.9999.1",
    }


@given(st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), min_size=1, max_size=64))
def test_every_name_ends_as_its_rule_does(value: str) -> None:
    try:
        device = idevid((N.SERIAL_NUMBER, value))
    except ValueError:
        return
    for name in grant_for(device, [parse_name_rule("dns:{serialNumber}.d.example.com")]).names:
        assert name.kind is AltNameKind.DNS
        label, _, rest = name.value.partition(".")
        assert rest == "d.example.com" and "*" not in label


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("{serialNumber}", "begin with one of"),
        ("host:{serialNumber}", "begin with one of"),
        ("dns:fixed.example.com", "field of the certificate"),
        ("dns:*", "field of the certificate"),
        ("dns:{serialNumber", "field of the certificate"),
        ("dns:{a}}.example.com", "field of the certificate"),
        ("dns:{colour}.example.com", "{colour} stands for nothing"),
        ("dns:{CN}{serialNumber}.example.com", "put a dot"),
        ("dns:{CN}-{serialNumber}.example.com", "put a dot"),
    ],
)
def test_rules_that_make_no_sense_are_refused_in_words(rule: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_name_rule(rule)


def test_kinds_are_those_of_the_core() -> None:
    assert grant_for(DEVICE, [parse_name_rule("dns:{serialNumber}.a.b")]).covers(AltName(AltNameKind.DNS, "ab-17.a.b"))
