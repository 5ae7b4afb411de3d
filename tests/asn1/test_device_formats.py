"""CBOR by RFC 8949's own examples, otherNames of devices by openssl, device names by the draft's grammar."""

from __future__ import annotations

import contextlib
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencertd.asn1 import der, other_names
from opencertd.asn1.cbor import CborError, parse_cbor
from opencertd.model.devices import DeviceName, parse_device_name
from tests.validation.devices import cbor

EXAMPLES = {
    "00": 0,
    "17": 23,
    "1818": 24,
    "1903e8": 1000,
    "1b000000e8d4a51000": 1000000000000,
    "20": -1,
    "3903e7": -1000,
    "f4": False,
    "f5": True,
    "f6": None,
    "40": b"",
    "4401020304": bytes([1, 2, 3, 4]),
    "6449455446": "IETF",
    "62c3bc": "ü",
    "80": [],
    "8301820203820405": [1, [2, 3], [4, 5]],
    "a0": {},
    "a26161016162820203": {"a": 1, "b": [2, 3]},
}
"""RFC 8949 Appendix A."""


@pytest.mark.parametrize(("octets", "value"), EXAMPLES.items())
def test_examples_of_the_rfc(octets: str, value: Any) -> None:
    assert parse_cbor(bytes.fromhex(octets)) == value


@pytest.mark.parametrize(
    "octets",
    [
        "",
        "18",
        "1f",
        "5f42010243030405ff",
        "9fff",
        "bfff",
        "c074",
        "fb3ff199999999999a",
        "f7",
        "a2616101616102",
        "a10102",
        "61ff",
        "9bffffffffffffffff",
        "5bffffffffffffffff",
        "0000",
        "81" * 40 + "00",
    ],
)
def test_what_is_not_read_is_refused(octets: str) -> None:
    with pytest.raises(CborError):
        parse_cbor(bytes.fromhex(octets))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_was_written_is_read(value: Any) -> None:
    try:
        assert parse_cbor(cbor(value)) == value
    except CborError as error:
        assert "too deeply" in str(error)


@given(st.binary(max_size=80))
def test_garbage_raises_nothing_else(data: bytes) -> None:
    with contextlib.suppress(CborError):
        parse_cbor(data)


@pytest.mark.parametrize("oid", [None, "1.2.3.4", "2.23.133.5", "0.9.2342.1", "2.999.1", "1.3.6.1.4.1.4294967296"])
def test_permanent_identifiers_go_both_ways_and_openssl_reads_them(oid: str | None) -> None:
    name = DeviceName("SERIAL ü 7", oid)
    data = other_names.encode_permanent_identifier(name)
    assert other_names.parse_permanent_identifier(data) == name
    shown = subprocess.run(
        ["openssl", "asn1parse", "-inform", "DER"], input=data, capture_output=True, check=True
    ).stdout
    assert b"UTF8STRING" in shown and (oid is None) == (b"OBJECT" not in shown)


def test_hardware_modules_go_both_ways() -> None:
    name = DeviceName("chip/9", "1.2.3.4")
    assert other_names.parse_hardware_module(other_names.encode_hardware_module(name)) == name


def test_an_identifier_that_is_left_to_the_subject_is_none() -> None:
    assert other_names.parse_permanent_identifier(der.sequence()) is None
    assert other_names.parse_permanent_identifier(der.sequence(der.oid("1.2.3"))) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x05\x00",
        der.sequence(der.integer(1)),
        der.sequence(der.tlv(0x0C, b"\xff")),
        der.sequence(b"\x06\x00", b"\x04\x00"),
    ],
)
def test_others_are_refused(data: bytes) -> None:
    for parse in (other_names.parse_permanent_identifier, other_names.parse_hardware_module):
        with pytest.raises(der.DerError):
            parse(data)


@given(st.binary(max_size=60))
def test_garbage_is_no_name(data: bytes) -> None:
    for parse in (other_names.parse_permanent_identifier, other_names.parse_hardware_module):
        with contextlib.suppress(der.DerError):
            parse(data)


@pytest.mark.parametrize(
    ("text", "oid_needed", "right"),
    [
        ("ABCDEF123456", False, DeviceName("ABCDEF123456")),
        ("ABCDEF123456/1.2.3.4", False, DeviceName("ABCDEF123456", "1.2.3.4")),
        ("ABCD/1.2.3.4", True, DeviceName("ABCD", "1.2.3.4")),
        ("ABCD", True, None),
        ("", False, None),
        ("/1.2.3", False, None),
        ("a/1.2.3/4", False, None),
        ("a/", False, None),
        ("a/3.1", False, None),
        ("a/1.40", False, None),
        ("a/1.2.03", False, None),
        ("a/2.999.0", False, DeviceName("a", "2.999.0")),
        ("a\x00b", False, None),
        ("x" * 201, False, None),
    ],
)
def test_device_names_by_the_drafts_grammar(text: str, oid_needed: bool, right: DeviceName | None) -> None:
    if right is None:
        with pytest.raises(ValueError, match=r"OID|serial number"):
            parse_device_name(text, oid_needed=oid_needed)
        return
    assert parse_device_name(text, oid_needed=oid_needed) == right and str(right) == text
