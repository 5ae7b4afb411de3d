"""The client certificate of a request: what its own TLS connection proved, or what a trusted proxy passes on.

No header counts unless the settings trust whoever has sent it (`proxy`). Through a proxy, a certificate in the TLS
connection is the proxy's own and says nothing of the client; nor has that connection anything to bind a client to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from OpenSSL import SSL, crypto
from twisted.internet.interfaces import ISSLTransport
from twisted.web.iweb import IRequest

from opencertd.web.proxy import MOST_IN_CHAIN, Forwarded


@dataclass(frozen=True)
class Shown:
    """A certificate that the client has shown, DER. `others_der` answers those it sent with it.

    `forwarded`: a proxy says that its key was proven, and nothing has looked at the certificate yet. Otherwise OpenSSL
    has verified its path, dates and purpose (`tls.ServerTls`). Whether it was revoked is asked later in any case.
    """

    certificate_der: bytes
    others_der: Callable[[], tuple[bytes, ...]] = tuple
    forwarded: bool = False


def shown_certificate(request: IRequest) -> Shown | None:
    """What the client has shown, None when nothing. Refusal MALFORMED when a trusted proxy's words cannot be read."""
    forwarded = _forwarded(request)
    if forwarded is not None:
        found = forwarded.certificates()
        return Shown(found[0], lambda: found[1:], forwarded=True) if found else None
    transport = ISSLTransport(getattr(request, "transport", None), None)
    if transport is None:
        return None
    certificate = transport.getPeerCertificate()
    if not isinstance(certificate, crypto.X509):
        return None
    return Shown(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate), lambda: _sent_with(transport))


def through_proxy(request: IRequest) -> bool:
    """Whether a trusted proxy has ended the client's TLS, so that the connection here is not the client's."""
    return _forwarded(request) is not None


def _forwarded(request: IRequest) -> Forwarded | None:
    forwarded = getattr(request, "forwarded", None)
    return forwarded if isinstance(forwarded, Forwarded) else None


def _sent_with(transport: ISSLTransport) -> tuple[bytes, ...]:
    """The other certificates of the handshake (RFC 8446 §4.4.2)."""
    connection = getattr(transport, "getHandle", lambda: None)()
    sent = connection.get_peer_cert_chain() if isinstance(connection, SSL.Connection) else None
    others = (sent or [])[: MOST_IN_CHAIN + 1]
    return tuple(crypto.dump_certificate(crypto.FILETYPE_ASN1, each) for each in others)
