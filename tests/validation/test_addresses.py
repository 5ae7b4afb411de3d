"""Which addresses validation may reach, and which settings open the rest."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencertd.validation.addresses import carried_address, host_port, parse_network, refusal_of

OPEN = [
    "10.0.0.1",
    "172.16.5.4",
    "192.168.1.1",
    "100.64.0.1",
    "8.8.8.8",
    "169.253.255.255",
    "128.0.0.1",
    "fd12:3456::1",
    "2606:4700::1111",
    "::ffff:10.0.0.1",
    "64:ff9b::808:808",
    "2002:0a00:0001::1",
]

REFUSED = {
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "0.0.0.0": "unspecified",
    "0.1.2.3": "this network",
    "169.254.169.254": "link-local",
    "169.254.0.1": "link-local",
    "224.0.0.1": "multicast",
    "239.255.255.250": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "broadcast",
    "192.0.0.192": "reserved",
    "100.100.100.200": "metadata",
    "168.63.129.16": "metadata",
    "::": "unspecified",
    "::1": "loopback",
    "fe80::1": "link-local",
    "febf::1": "link-local",
    "fec0::1": "reserved",
    "ff02::1": "multicast",
    "fd00:ec2::254": "metadata",
    "fd20:ce::254": "metadata",
    "4000::1": "reserved",
    "100::1": "reserved",
    "::ffff:127.0.0.1": "loopback",
    "::ffff:169.254.169.254": "link-local",
    "::ffff:0:127.0.0.1": "loopback",
    "::127.0.0.1": "loopback",
    "64:ff9b::7f00:1": "loopback",
    "64:ff9b::a9fe:a9fe": "link-local",
    "64:ff9b:1::a00:1": "tunnel",
    "2002:7f00:1::1": "loopback",
    "2002:a9fe:a9fe::": "link-local",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2": "tunnel",
    "2001:db8::5efe:127.0.0.1": "loopback",
    "fd00::200:5efe:127.0.0.1": "loopback",
}


@pytest.mark.parametrize("text", OPEN)
def test_private_and_public_hosts_are_open(text: str) -> None:
    assert refusal_of(ipaddress.ip_address(text)) is None


@pytest.mark.parametrize(("text", "word"), REFUSED.items())
def test_what_is_no_host_of_others_is_refused_with_its_reason(text: str, word: str) -> None:
    reason = refusal_of(ipaddress.ip_address(text))
    assert reason is not None and word in reason


@pytest.mark.parametrize("text", REFUSED)
def test_every_refusal_is_opened_by_a_network_that_covers_it(text: str) -> None:
    address = ipaddress.ip_address(text)
    assert refusal_of(address, (ipaddress.ip_network(address),)) is None


def test_opening_a_network_opens_what_ipv6_wraps_around_it_and_nothing_else() -> None:
    allow = (parse_network("127.0.0.0/8"),)
    assert refusal_of(ipaddress.ip_address("::ffff:127.0.0.1"), allow) is None
    assert refusal_of(ipaddress.ip_address("::ffff:169.254.169.254"), allow)
    assert refusal_of(ipaddress.ip_address("::1"), allow)
    assert refusal_of(ipaddress.ip_address("169.254.169.254"), allow)


def test_a_zone_is_refused() -> None:
    assert refusal_of(ipaddress.ip_address("fd00::1%eth0")) == "an address with a zone"


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:0:0", "::ffff:0:0:0", "64:ff9b::", "2001:db8::5efe:0:0"]))
def test_an_ipv4_address_is_refused_in_every_ipv6_form(inner: ipaddress.IPv4Address, prefix: str) -> None:
    outer = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | int(inner))
    assert carried_address(outer) == inner
    assert (refusal_of(outer) is None) == (refusal_of(inner) is None)


@given(st.ip_addresses(v=4), st.integers(0, 2**80 - 1))
def test_6to4_carries_its_address_in_front(inner: ipaddress.IPv4Address, rest: int) -> None:
    outer = ipaddress.IPv6Address(0x2002 << 112 | int(inner) << 80 | rest)
    assert carried_address(outer) == inner


@given(st.ip_addresses())
def test_nothing_the_library_calls_special_to_the_machine_is_open(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    special = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    if special:
        assert refusal_of(address) is not None


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("127.0.0.0/8", "127.0.0.0/8"),
        (" ::1 ", "::1/128"),
        ("10.1.2.3", "10.1.2.3/32"),
        ("fd00::/8", "fd00::/8"),
    ],
)
def test_networks_parse(text: str, network: str) -> None:
    assert parse_network(text) == ipaddress.ip_network(network)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("127.0.0.1/8", "127.0.0.0/8 may be meant"),
        ("loopback", "'loopback' is not a network"),
        ("10.0.0.0/33", "is not a network"),
        ("", "is not a network"),
    ],
)
def test_what_is_no_network_is_told_with_what_to_write(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"network|prefix") as told:
        parse_network(text)
    assert words in str(told.value)


def test_a_port_beside_ipv6_is_unambiguous() -> None:
    assert host_port(ipaddress.ip_address("fd00::1"), 80) == "[fd00::1]:80"
    assert host_port(ipaddress.ip_address("10.0.0.1"), 80) == "10.0.0.1:80"
