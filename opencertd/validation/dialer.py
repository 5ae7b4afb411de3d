"""From a host to a connection: look up once, check each address, connect to the checked address and no other."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from functools import partial
from ipaddress import IPv4Address
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionRefusedError,
    NoRouteError,
    TCPTimedOutError,
    TimeoutError,
)

from opencertd.model.names import AltName, AltNameKind
from opencertd.validation.addresses import Address, Network, host_port, refusal_of
from opencertd.validation.attempt import Attempt
from opencertd.validation.resolver import LookupFailed, Resolver
from opencertd.validation.transport import SingleConnection
from opencertd.validation.verdict import FailureKind, Unproven

T = TypeVar("T")

EACH_FAMILY = 2
"""Addresses tried of each of IPv6 and IPv4: a host with a dead address is still proven, a name with a hundred is no
means to make the CA knock at a hundred doors."""

CONNECT_SECONDS = 2.5
"""Patience with an address while there is another to try."""

RECEIVED_LIMIT = 192 * 1024
"""Octets of one connection: a body of 64 KiB, as much again of headers, and what TLS adds."""


class Dialer:
    """Connects to hosts that strangers named.

    `reactor` provides `IReactorTCP` and `IReactorTime`; `allow` and `refuse` are the networks that settings open and
    close. `sources`: own addresses to connect from, one of a family at most; empty for the machine's choice. With
    sources, a family without one is not used.
    """

    def __init__(
        self,
        reactor: Any,
        resolver: Resolver,
        allow: tuple[Network, ...],
        refuse: tuple[Network, ...] = (),
        sources: tuple[Address, ...] = (),
    ) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._allow = allow
        self._refuse = refuse
        self._sources = {address.version: address for address in sources}

    async def addresses(self, attempt: Attempt, host: AltName) -> tuple[Address, ...]:
        """The addresses of `host` that may be connected to, in the order to try them: IPv6 first (RFC 6724).

        Raises `Unproven`: DNS when there is none, CONNECTION when all are refused.
        """
        found: tuple[Address, ...]
        if host.kind is AltNameKind.IP:
            found = (ipaddress.ip_address(host.value),)
        else:
            attempt.enter(f"looking up the addresses of {host.value}", FailureKind.DNS)
            try:
                found = await self._resolver.addresses(host.value)
            except LookupFailed as failure:
                raise Unproven(FailureKind.DNS, failure.detail) from failure
        refusals = {address: refusal_of(address, self._allow, self._refuse) for address in found}
        open_ones = [address for address, reason in refusals.items() if reason is None]
        if not open_ones:
            reasons = ", ".join(f"{address} ({reason})" for address, reason in list(refusals.items())[:4])
            raise Unproven(
                FailureKind.CONNECTION,
                f"{host.value} is at {reasons}, where this CA does not validate unless its settings allow it",
            )
        ipv4 = [address for address in open_ones if isinstance(address, IPv4Address)]
        ipv6 = [address for address in open_ones if not isinstance(address, IPv4Address)]
        chosen: tuple[Address, ...] = (*ipv6[:EACH_FAMILY], *ipv4[:EACH_FAMILY])
        if not self._sources:
            return chosen
        usable = tuple(address for address in chosen if address.version in self._sources)
        if not usable:
            raise Unproven(
                FailureKind.CONNECTION, f"{host.value} has no address of a family that this CA connects from here"
            )
        return usable

    async def reach(
        self,
        attempt: Attempt,
        host: AltName,
        port: int,
        talk: Callable[[Address, SingleConnection], Awaitable[T]],
    ) -> T:
        """What `talk` says of the first address of `host` that takes a connection.

        `talk` connects by the endpoint it is given and lets a `ConnectError` through. Raises `Unproven`.
        """
        addresses = await self.addresses(attempt, host)
        failures = []
        for left, address in zip(range(len(addresses) - 1, -1, -1), addresses, strict=True):
            place = host_port(address, port)
            attempt.enter(f"connecting to {place} for {host.value}")
            connection = SingleConnection(
                self._reactor,
                address,
                port,
                timeout=CONNECT_SECONDS if left else 30,  # the attempt's own end comes sooner
                limit=RECEIVED_LIMIT,
                source=self._sources.get(address.version),
                connected=partial(
                    attempt.enter, f"waiting for {place}, which took the connection for {host.value}, to answer"
                ),
            )
            try:
                return await talk(address, connection)
            except ConnectError as error:
                failures.append(f"{place} {_words(error)}")
            except ConnectingCancelledError:  # Twisted's word for a cancelled connect; nobody waits any more
                raise CancelledError from None
            finally:
                connection.close()
        raise Unproven(FailureKind.CONNECTION, f"cannot connect for {host.value}: {'; '.join(failures)}")


def _words(error: ConnectError) -> str:
    match error:
        case ConnectionRefusedError():
            return "refused the connection"
        case TimeoutError() | TCPTimedOutError():
            return "did not answer"
        case NoRouteError():
            return "is unreachable"
    return "could not be reached"
