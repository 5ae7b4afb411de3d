"""Connections to strangers: to one address, of a bounded number of octets, by TLS that trusts nobody.

Who answers is proven by what they answer, never by their certificate: RFC 8555 §8.3 lets a redirect lead to an HTTPS
server whose certificate is not valid yet (it may be what is being ordered), and RFC 8737 §3 asks for a self-signed one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from opencertd.model.names import AltName, AltNameKind
from opencertd.validation.addresses import Address


class _Counted(ProtocolWrapper):
    """Hands on what is received until the limit, then drops the connection."""

    received = 0
    overflowed = False

    def dataReceived(self, data: bytes) -> None:  # noqa: N802  (Twisted's name)
        """Count, then hand on or abort."""
        self.received += len(data)
        if self.received > cast(_CountedFactory, self.factory).limit:
            self.overflowed = True
            cast(Any, self.transport).abortConnection()
            return
        cast(Any, self.wrappedProtocol).dataReceived(data)


class _CountedFactory(WrappingFactory):
    protocol = _Counted
    noisy = False

    def __init__(self, wrapped: IProtocolFactory, limit: int) -> None:
        cast(Any, super()).__init__(wrapped)
        self.limit = limit


@implementer(IStreamClientEndpoint)
class SingleConnection:
    """An endpoint for one connection to exactly `address`: no name is looked up, so none can be rebound meanwhile.

    `source`: the own address to connect from, None for the machine's choice. `timeout`: seconds to connect. `limit`:
    octets received, TLS included, after which the connection is dropped and `overflowed` is True. `connected` is called
    when the connection stands.
    """

    def __init__(
        self,
        reactor: Any,
        address: Address,
        port: int,
        *,
        timeout: float,
        limit: int,
        connected: Callable[[], None],
        source: Address | None = None,
    ) -> None:
        endpoint = TCP4ClientEndpoint if isinstance(address, IPv4Address) else TCP6ClientEndpoint
        bind = None if source is None else (str(source), 0)
        self._endpoint = endpoint(reactor, str(address), port, timeout=timeout, bindAddress=bind)
        self._limit = limit
        self._connected = connected
        self._wrapper: _Counted | None = None

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803  (Twisted's name)
        """See `IStreamClientEndpoint`; fails with a `ConnectError`."""

        def connected(wrapper: IProtocol) -> IProtocol:
            self._wrapper = cast(_Counted, wrapper)
            self._connected()
            return self._wrapper.wrappedProtocol

        cast(Any, protocolFactory).noisy = False  # two lines of log for each validation say nothing
        factory = cast(IProtocolFactory, _CountedFactory(protocolFactory, self._limit))
        return cast("Deferred[IProtocol]", self._endpoint.connect(factory)).addCallback(connected)

    @property
    def overflowed(self) -> bool:
        """Whether the other side sent more than the limit."""
        return self._wrapper is not None and self._wrapper.overflowed

    def close(self) -> None:
        """End the connection if there is one: what was written still goes out, nothing more is read."""
        if self._wrapper is not None:
            cast(Any, self._wrapper).loseConnection()


@implementer(IOpenSSLClientConnectionCreator)
class TrustingTls:
    """TLS 1.2 or later to whoever answers. `server_name` goes into SNI; `protocol` is the only one ALPN offers."""

    def __init__(self, server_name: str | None, protocol: bytes | None = None) -> None:
        self._server_name = server_name
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_verify(SSL.VERIFY_NONE)
        if protocol is not None:
            context.set_alpn_protos([protocol])
        self._context = context

    def clientConnectionForTLS(  # noqa: N802  (Twisted's name)
        self,
        tlsProtocol: TLSMemoryBIOProtocol,  # noqa: N803  (likewise)
    ) -> SSL.Connection:
        """See `IOpenSSLClientConnectionCreator`."""
        connection = SSL.Connection(self._context, None)
        if self._server_name is not None:
            connection.set_tlsext_host_name(self._server_name.encode("ascii"))
        return connection


def server_name_of(name: AltName) -> str:
    """What SNI says for `name` in a tls-alpn-01 handshake: an IP address by its reverse name (RFC 8738 §6)."""
    if name.kind is AltNameKind.IP:
        return ipaddress.ip_address(name.value).reverse_pointer
    return name.value


def tls_reason(error: SSL.Error) -> str:
    """OpenSSL's words for what went wrong, such as `tlsv1 alert no application protocol`."""
    entries = error.args[0] if error.args and isinstance(error.args[0], (list, tuple)) else ()
    return ", ".join(str(entry[-1]) for entry in entries) or "the handshake failed"
