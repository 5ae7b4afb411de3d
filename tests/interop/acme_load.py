"""ACME clients against one daemon in this process's event loop, their tokens answered beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from tests.interop.acme_client import AcmeClient
from tests.interop.daemon import Daemon
from tests.interop.responders import Http01
from tests.interop.wire import Connection, client_tls


def connection_to(ca: Daemon) -> Connection:
    """A kept HTTPS connection to the daemon."""
    return Connection("localhost", ca.port, client_tls(str(ca.trust_anchors)))


@asynccontextmanager
async def serving_tokens(ca: Daemon, clients: Iterable[AcmeClient]) -> AsyncIterator[None]:
    """Answer http-01 for the accounts of `clients`.

    A name's first label ends in the number of its client when there are several (`order-17-3.test`).
    """
    thumbprints = [client.thumbprint for client in clients]

    def key_authorization(host: str, token: str) -> str | None:
        tail = host.partition(".")[0].rpartition("-")[2]
        number = int(tail) if tail.isdecimal() and len(thumbprints) > 1 else 0
        return f"{token}.{thumbprints[number]}" if number < len(thumbprints) else None

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Http01(key_authorization), "127.0.0.1", ca.http01_port)
    try:
        yield
    finally:
        server.close()


@asynccontextmanager
async def acme_client(ca: Daemon) -> AsyncIterator[AcmeClient]:
    """One client whose tokens are answered."""
    client = AcmeClient(connection_to(ca))
    try:
        async with serving_tokens(ca, [client]):
            yield client
    finally:
        client.connection.close()
