"""Which addresses validation may connect to: pure rules against being made a proxy into the CA's own network.

Whoever orders a certificate chooses, by DNS and by redirects, where the CA connects. A private CA must reach private
hosts (RFC 1918, unique local IPv6, the shared space of RFC 6598), so these are open; addresses that only make sense
from the CA's own machine, cloud metadata services and what is no host at all are refused, unless a configured list
of networks opens them. An IPv6 address that carries an IPv4 address is judged by what it carries too.

Sources: the IANA special-purpose address registries (RFC 6890), RFC 4291, RFC 6052 (NAT64), RFC 3056 (6to4).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_REFUSED: tuple[tuple[Network, str], ...] = tuple(
    (ipaddress.ip_network(network), reason)
    for network, reason in (
        ("0.0.0.0/32", "the unspecified address"),
        ("0.0.0.0/8", "an address of this network"),
        ("127.0.0.0/8", "a loopback address"),
        ("169.254.0.0/16", "a link-local address"),
        ("192.0.0.0/24", "a reserved address"),
        ("192.88.99.0/24", "a reserved address"),  # 6to4 relays (RFC 7526)
        ("224.0.0.0/4", "a multicast address"),
        ("255.255.255.255/32", "the broadcast address"),
        ("240.0.0.0/4", "a reserved address"),
        ("100.100.100.200/32", "a cloud metadata service"),  # Alibaba, within the shared space
        ("168.63.129.16/32", "a cloud metadata service"),  # Azure, a public address
        ("::/128", "the unspecified address"),
        ("::1/128", "a loopback address"),
        ("fe80::/10", "a link-local address"),
        ("ff00::/8", "a multicast address"),
        ("2001::/32", "a tunnel address"),  # Teredo (RFC 4380)
        ("64:ff9b:1::/48", "a tunnel address"),  # local NAT64 (RFC 8215): where the IPv4 address sits is unknown
        ("fd00:ec2::/32", "a cloud metadata service"),  # Amazon, within the unique local space
        ("fd20:ce::254/128", "a cloud metadata service"),  # Google, likewise
    )
)

_CARRIERS = tuple(
    (ipaddress.IPv6Network(network), shift)
    for network, shift in (
        ("::ffff:0:0/96", 0),  # IPv4-mapped
        ("::ffff:0:0:0/96", 0),  # IPv4-translated (RFC 2765)
        ("::/96", 0),  # IPv4-compatible
        ("64:ff9b::/96", 0),  # NAT64
        ("2002::/16", 80),  # 6to4
    )
)
"""IPv6 networks whose addresses carry an IPv4 address, and how many bits stand to its right."""

_IPV6_HOSTS = (IPv6Network("2000::/3"), IPv6Network("fc00::/7"))
"""Global unicast and unique local addresses; the rest of IPv6 is reserved (RFC 4291 §2.4)."""


BY_SETTING = "an address that settings close"


def refusal_of(address: Address, allow: Iterable[Network] = (), refuse: Iterable[Network] = ()) -> str | None:
    """Why validation must not connect to `address` ("a loopback address"), or None when it may.

    `allow` and `refuse`: networks opened and closed by settings; of these the longer prefix wins, at a tie `refuse`.
    They win over every refusal here, also of what an IPv6 address carries.
    """
    opened, closed = tuple(allow), tuple(refuse)
    told = _longest(address, opened), _longest(address, closed)
    if told != (-1, -1):
        return None if told[0] > told[1] else BY_SETTING
    for network, reason in _REFUSED:
        if address in network:
            return reason
    if isinstance(address, IPv4Address):
        return None
    return _refusal_of_ipv6(address, opened, closed)


def _longest(address: Address, networks: Iterable[Network]) -> int:
    """The longest prefix among those with the address in them; -1 when there is none."""
    return max((network.prefixlen for network in networks if address in network), default=-1)


def _refusal_of_ipv6(address: IPv6Address, allow: tuple[Network, ...], refuse: tuple[Network, ...]) -> str | None:
    if address.scope_id is not None:
        return "an address with a zone"
    carried = carried_address(address)
    if carried is not None:
        reason = refusal_of(carried, allow, refuse)
        return f"{carried} in IPv6 form, {reason}" if reason else None
    if not any(address in network for network in _IPV6_HOSTS):
        return "a reserved address"
    return None


def carried_address(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address inside an IPv4-mapped, -translated, -compatible, 6to4 or NAT64 address; else None.

    ISATAP interface identifiers (RFC 5214 §6.1), which any network may use, count too.
    """
    number = int(address)
    for network, shift in _CARRIERS:
        if address in network:
            return IPv4Address(number >> shift & 0xFFFFFFFF)
    if number >> 32 & 0xFDFFFFFF == 0x00005EFE:  # 0000:5efe or 0200:5efe
        return IPv4Address(number & 0xFFFFFFFF)
    return None


def parse_network(text: str) -> Network:
    """`text` ("10.0.0.0/8", "::1") as a network. Raises `ValueError` in words for whoever wrote the setting."""
    trimmed = text.strip()
    try:
        return ipaddress.ip_network(trimmed)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(trimmed, strict=False)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a network: write an address or ADDRESS/BITS, such as 127.0.0.0/8 or fd00::/8"
        ) from None
    raise ValueError(f"{text!r} has bits set to the right of its prefix: {meant} may be meant")


def host_port(address: Address, port: int) -> str:
    """`10.0.0.1:80`, `[fd00::1]:80`."""
    return f"[{address}]:{port}" if isinstance(address, IPv6Address) else f"{address}:{port}"
