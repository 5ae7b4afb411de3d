"""tls-alpn-01 (RFC 8737): a TLS handshake that offers only `acme-tls/1`, for the certificate the server shows."""

from __future__ import annotations

from typing import Any, cast

from OpenSSL import SSL, crypto
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.error import ConnectionClosed
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from opencertd.validation.addresses import Address, host_port
from opencertd.validation.attempt import Attempt
from opencertd.validation.dialer import Dialer
from opencertd.validation.transport import SingleConnection, TrustingTls, server_name_of, tls_reason
from opencertd.validation.verdict import (
    ACME_TLS_PROTOCOL,
    ControlQuestion,
    FailureKind,
    HandshakeEvidence,
    Unproven,
)


@implementer(IHandshakeListener)
class _Handshake(Protocol):
    """Fires `done` with (ALPN protocol, certificate) when the handshake ends, and says goodbye (RFC 8737 §3)."""

    def __init__(self) -> None:
        self.done: Deferred[tuple[bytes | None, bytes | None]] = Deferred()
        self._completed = False

    def handshakeCompleted(self) -> None:  # noqa: N802  (Twisted's name)
        """See `IHandshakeListener`."""
        self._completed = True
        transport = cast(Any, self.transport)
        certificate = transport.getPeerCertificate()
        shown = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate) if certificate is not None else None
        transport.loseConnection()
        self.done.callback((transport.negotiatedProtocol, shown))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Before the handshake's end this is its failure."""
        if not self._completed:
            self.done.errback(reason)


async def gather_handshake(attempt: Attempt, dialer: Dialer, question: ControlQuestion, port: int) -> HandshakeEvidence:
    """The handshake with the name's host at `port`. Raises `Unproven`."""
    tls = TrustingTls(server_name_of(question.name), ACME_TLS_PROTOCOL)

    async def talk(address: Address, connection: SingleConnection) -> HandshakeEvidence:
        place = host_port(address, port)
        handshake = await wrapClientTLS(tls, connection).connect(Factory.forProtocol(_Handshake))
        attempt.enter(f"waiting for the TLS handshake with {place} for {question.name.value}", FailureKind.TLS)
        try:
            protocol, certificate_der = await cast(_Handshake, handshake).done
        except SSL.Error as error:
            raise Unproven(FailureKind.TLS, f"{_told(question, place)} failed: {tls_reason(error)}") from error
        except ConnectionClosed as error:
            raise Unproven(FailureKind.TLS, f"{_told(question, place)} was broken off by the server") from error
        return HandshakeEvidence(place, protocol, certificate_der)

    return await dialer.reach(attempt, question.name, port, talk)


def _told(question: ControlQuestion, place: str) -> str:
    return f"the TLS handshake with {place} for {question.name.value} (ALPN acme-tls/1)"
