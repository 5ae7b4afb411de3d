"""The channel binding of a request is that of its own TLS connection."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet.interfaces import ISSLTransport
from twisted.web.iweb import IRequest

from opencertd.keys.channel_binding import ChannelBinding, channel_binding
from opencertd.web.peer import through_proxy


def request_binding(request: IRequest) -> ChannelBinding | None:
    """What names the TLS connection between the client and us; None when there is none, TLS ending before us."""
    if through_proxy(request):
        return None
    transport = ISSLTransport(getattr(request, "transport", None), None)
    connection = None if transport is None else getattr(transport, "getHandle", lambda: None)()
    return channel_binding(connection, client=False) if isinstance(connection, SSL.Connection) else None
