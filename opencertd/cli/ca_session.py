"""One run of the reactor for one deed of the `/ca` API, known to the CA by a client certificate."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from opencertd.cli.certificate import read_certificates
from opencertd.cli.est_session import read_identity, run_reactor
from opencertd.client.bounds import Limits
from opencertd.client.ca_api import CaApiClient, parse_server_url
from opencertd.client.http import HttpsClient, https_agent
from opencertd.client.tls import TlsSettings

T = TypeVar("T")


@dataclass(frozen=True)
class CaConnection:
    """The options of a command that asks the `/ca` API, as they were typed."""

    server: str
    trust_anchors: str | None
    cert: str
    key: str | None
    passphrase_file: str | None
    timeout: float


def run_ca(connection: CaConnection, deed: Callable[[CaApiClient], Coroutine[Deferred[Any], Any, T]]) -> T:
    """Do `deed` with a client for `connection` and return what it returns. Raises what it raises."""
    base_url = parse_server_url(connection.server)
    anchors = None if connection.trust_anchors is None else read_certificates(connection.trust_anchors)
    identity = read_identity(connection.cert, connection.key, connection.passphrase_file)
    if identity is None:
        raise click.UsageError("give a client certificate by --cert, and its key by --key")

    async def ask(reactor: IReactorTime) -> T:
        agent = https_agent(reactor, TlsSettings(anchors, identity), Limits(seconds=connection.timeout))
        return await deed(CaApiClient(HttpsClient(agent), base_url, identity.key))

    return run_reactor(ask)
