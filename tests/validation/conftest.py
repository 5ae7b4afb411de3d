"""A DNS server of each test's own, and resolvers that ask it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from opencertd.validation.resolver import DnsResolver, DnsServer
from tests import dns_server

MakeResolver = Callable[..., DnsResolver]


@pytest.fixture
def zone() -> Iterator[dns_server.DnsServer]:
    """Answers on loopback; empty."""
    with dns_server.DnsServer() as server:
        yield server


@pytest.fixture
def make_resolver() -> Iterator[MakeResolver]:
    """Makes resolvers whose threads end with the test."""
    from twisted.internet import reactor

    made: list[DnsResolver] = []

    def make(
        server: DnsServer | None, lifetime: float = 3.0, hosts: Path = Path("/nonexistent"), **more: Any
    ) -> DnsResolver:
        made.append(DnsResolver(reactor, server, lifetime=lifetime, hosts=hosts, **more))
        return made[-1]

    yield make
    for resolver in made:
        resolver.stop()


@pytest.fixture
def resolver(zone: dns_server.DnsServer, make_resolver: MakeResolver) -> DnsResolver:
    """Asks `zone`."""
    return make_resolver(DnsServer("127.0.0.1", zone.port))
