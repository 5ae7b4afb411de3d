"""An agent that keeps one TLS connection for its next request, and can open it before that request is made.

What a request says of the connection that carries it (channel binding, RFC 7030 §3.5) has to be known before it is
signed, and then it has to go by that connection or not at all.
"""

# mypy: disable-error-code="no-untyped-call"
# (Twisted's Agent, its pool and URI have no annotations.)

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.web.client import URI, Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from opencertd.client.bounds import BoundedConnection, BoundedEndpoints, Limits
from opencertd.client.errors import ClientError
from opencertd.client.tls import TlsSettings
from opencertd.keys.channel_binding import ChannelBinding, channel_binding


class _OneConnection(HTTPConnectionPool):
    """Twisted's pool with room for one connection, and a promise: what `hold` has opened is what comes next."""

    maxPersistentPerHost = 1  # noqa: N815  (Twisted)
    retryAutomatically = False  # noqa: N815  (Twisted)

    def __init__(self, reactor: IReactorTime) -> None:
        super().__init__(reactor, persistent=True)
        self._held: Any = None

    def getConnection(self, key: Any, endpoint: IStreamClientEndpoint) -> Deferred[Any]:  # noqa: N802  (Twisted)
        held, self._held = self._held, None
        if held is not None:
            lost = _below(held).lost
            return succeed(held) if lost is None else fail(lost)
        return cast("Deferred[Any]", super().getConnection(key, endpoint)).addCallback(_renewed)

    async def hold(self, key: Any, endpoint: IStreamClientEndpoint) -> BoundedConnection:
        """An idle connection, its handshake over; the next request goes by it."""
        held = await self.getConnection(key, endpoint)
        connection = _below(held)
        try:
            await connection.secured()
        except BaseException:
            connection.abortConnection()
            raise
        self._held = held
        return connection

    def drop(self) -> None:
        """Give up what is held."""
        held, self._held = self._held, None
        if held is not None:
            _below(held).abortConnection()

    async def close(self) -> None:
        """End everything without a farewell, for whose answer some servers would let us wait."""
        self.drop()
        for protocols in self._connections.values():
            for protocol in protocols:
                _below(protocol).abortConnection()
        await self.closeCachedConnections()


def _renewed(protocol: Any) -> Any:
    _below(protocol).renew()
    return protocol


def _below(protocol: Any) -> BoundedConnection:
    return cast(BoundedConnection, protocol.transport)


@implementer(IAgent)
class Line:
    """Speaks HTTPS under `settings` and `limits`, by one connection as long as the server keeps it."""

    def __init__(self, reactor: IReactorTime, settings: TlsSettings, limits: Limits) -> None:
        self._endpoints = BoundedEndpoints(reactor, settings, limits)
        self._connections = _OneConnection(reactor)
        self._agent = Agent.usingEndpointFactory(reactor, self._endpoints, self._connections)

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803  (Twisted)
    ) -> Deferred[IResponse]:
        """As Twisted's Agent does."""
        return cast("Deferred[IResponse]", self._agent.request(method, uri, headers, bodyProducer))

    async def binding(self, uri: bytes) -> ChannelBinding:
        """What names the connection that the next request goes by, which must be one to `uri`. Raises ClientError."""
        self._connections.drop()
        where = URI.fromBytes(uri)
        endpoint = self._endpoints.endpointForURI(where)
        connection = await self._connections.hold((where.scheme, where.host, where.port), endpoint)
        found = channel_binding(connection.tls, client=True)
        if found is None:
            raise ClientError("the TLS connection has nothing that a request could be linked to")
        return found

    async def close(self) -> None:
        """End the connection."""
        await self._connections.close()
