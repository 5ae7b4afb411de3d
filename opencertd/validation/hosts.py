"""The machine's own table of hosts (`/etc/hosts`, hosts(5)), as resolvers of the machine read it before DNS."""

from __future__ import annotations

import ipaddress

from opencertd.validation.addresses import Address


def addresses_in_hosts(table: str, name: str) -> tuple[Address, ...]:
    """The addresses that `table` gives for `name` (lower case), in its order. Lines that make no sense are skipped."""
    found: list[Address] = []
    for line in table.splitlines():
        first, *names = line.partition("#")[0].split() or [""]
        if name not in (other.lower().removesuffix(".") for other in names):
            continue
        try:
            address = ipaddress.ip_address(first)
        except ValueError:
            continue
        if address not in found:
            found.append(address)
    return tuple(found)
