"""A connection that ends itself when it has brought too much or has lasted too long, whatever it carries.

The limits sit below HTTP, so that they hold for the TLS handshake, for headers and for a body that never ends, and
so that the end is an abort: a polite close would wait for the other side.
"""

# mypy: disable-error-code="no-untyped-call"
# (Protocol wrappers and Failure have no annotations in Twisted.)

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from OpenSSL import SSL
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IDelayedCall,
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
    ITransport,
)
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.error import SchemeNotSupported
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from opencertd.client.errors import ClientError
from opencertd.client.tls import TlsSettings, client_connection_creator


@dataclass(frozen=True)
class Limits:
    """What one exchange may cost: `seconds` to connect and again for all the rest, `size` bytes received."""

    seconds: float = 30.0
    size: int = 1 << 20


@implementer(IHandshakeListener)
class BoundedConnection(ProtocolWrapper):
    """Passes everything on until a limit is reached; then the wrapped protocol is told a ClientError."""

    _deadline: IDelayedCall
    _verdict: Failure | None = None
    _received = 0
    lost: Failure | None = None

    def __init__(self, factory: BoundedFactory, wrapped: IProtocol) -> None:
        super().__init__(factory, wrapped)
        self._limits = factory.limits
        self._reactor = factory.reactor
        self._secured = False
        self._waiting: list[Deferred[None]] = []

    @property
    def tls(self) -> SSL.Connection:
        """OpenSSL's end of the connection."""
        return cast(SSL.Connection, cast(TLSMemoryBIOProtocol, self.transport).getHandle())

    def handshakeCompleted(self) -> None:  # noqa: N802  (Twisted)
        self._secured = True
        self._tell(None)

    def secured(self) -> Deferred[None]:
        """Fires when the TLS handshake is over; fails as the connection does before that."""
        if self.lost is not None:
            return fail(self.lost)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        if self._secured:
            self._tell(None)
        return waiting

    def _tell(self, outcome: Failure | None) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None) if outcome is None else one.errback(outcome)

    def renew(self) -> None:
        """Another exchange begins: the limits count for it alone."""
        self._received = 0
        if self._deadline.active():
            self._deadline.reset(self._limits.seconds)

    def makeConnection(self, transport: ITransport) -> None:  # noqa: N802  (Twisted)
        seconds = self._limits.seconds
        words = f"it did not answer within {seconds:g} seconds"
        self._deadline = self._reactor.callLater(seconds, self._end, words)
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802  (Twisted)
        self._received += len(data)
        if self._received > self._limits.size:
            self._end(f"its answer is larger than {self._limits.size} bytes")
        elif self._verdict is None:
            super().dataReceived(data)

    def _end(self, words: str) -> None:
        if self._verdict is None:
            self._verdict = Failure(ClientError(words))
            ITCPTransport(self.transport).abortConnection()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        if self._deadline.active():
            self._deadline.cancel()
        self.lost = self._verdict or reason
        super().connectionLost(self.lost)
        self._tell(self.lost)


class BoundedFactory(WrappingFactory[BoundedConnection]):
    """Wraps each protocol of a factory in a `BoundedConnection`."""

    protocol = BoundedConnection
    noisy = False

    def __init__(self, wrapped: IProtocolFactory, limits: Limits, reactor: IReactorTime) -> None:
        super().__init__(wrapped)
        self.limits = limits
        self.reactor = reactor


@implementer(IStreamClientEndpoint)
class _BoundedEndpoint:
    def __init__(self, inner: IStreamClientEndpoint, limits: Limits, reactor: IReactorTime) -> None:
        self._inner = inner
        self._limits = limits
        self._reactor = reactor

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803  (Twisted)
        bounded = BoundedFactory(protocolFactory, self._limits, self._reactor)
        connecting: Deferred[IProtocol] = self._inner.connect(bounded)
        return connecting.addCallback(lambda connection: cast(BoundedConnection, connection).wrappedProtocol)


@implementer(IAgentEndpointFactory)
class BoundedEndpoints:
    """For an Agent: HTTPS endpoints, and with `plain` those of HTTP, under `settings` and `limits`; no others."""

    def __init__(self, reactor: IReactorTime, settings: TlsSettings, limits: Limits, *, plain: bool = False) -> None:
        self._reactor = reactor
        self._settings = settings
        self._limits = limits
        self._plain = plain

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:  # noqa: N802  (Twisted)
        if uri.scheme != b"https" and not (self._plain and uri.scheme == b"http"):
            raise SchemeNotSupported(f"{uri.scheme.decode('ascii')} is not spoken here")
        host = uri.host.decode("ascii")
        plain = HostnameEndpoint(self._reactor, host, uri.port, timeout=self._limits.seconds)
        if uri.scheme == b"http":
            return _BoundedEndpoint(plain, self._limits, self._reactor)
        secure = wrapClientTLS(client_connection_creator(host, self._settings), plain)
        return _BoundedEndpoint(secure, self._limits, self._reactor)
