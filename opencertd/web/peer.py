"""The client certificate of a request is the one its own TLS connection proved; no header can claim it."""

from __future__ import annotations

from OpenSSL import crypto
from twisted.internet.interfaces import ISSLTransport
from twisted.web.iweb import IRequest


def peer_certificate(request: IRequest) -> bytes | None:
    """DER of the certificate whose key the client proved in the TLS handshake (RFC 8446 §4.4.3), else None.

    OpenSSL has verified its path, dates and purpose by then (`tls.ServerTls`); whether it was revoked is asked later.
    """
    transport = ISSLTransport(getattr(request, "transport", None), None)
    if transport is None:
        return None
    certificate = transport.getPeerCertificate()
    if not isinstance(certificate, crypto.X509):
        return None
    return crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
