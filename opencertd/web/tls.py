"""TLS 1.2 and 1.3 with a client certificate asked for, never required, and judged by OpenSSL alone.

A client that shows a certificate must show one that leads to an issuing CA of ours: right signature, in its dates, fit
for clientAuth (RFC 5280 §4.2.1.12), or the handshake fails. Whether it was revoked is asked in `authentication`. No
Python code runs while a certificate is verified: that costs a third of a handshake.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.tcp import Connection
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from opencertd.errors import StartError
from opencertd.keys.tls import tls_key

CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption only (RFC 9325 §4.2). TLS 1.3 has no others."""

CHAIN_DEPTH = 4
_PIECE = 2**15
HTTP_1_1 = b"http/1.1"


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """The daemon's end of TLS, for Twisted's `ssl` endpoints, `listenSSL` and `TLSMemoryBIOFactory`.

    `chain_pem`: the server's certificate, then the CAs between it and the root. `key_pem`: its unencrypted key.
    `client_anchors`: the issuing CAs whose certificates clients may show; none of them need be a root.
    Raises StartError when chain and key are no pair.
    """

    def __init__(self, chain_pem: bytes, key_pem: bytes, *, client_anchors: Sequence[x509.Certificate] = ()) -> None:
        self._pair = (chain_pem, key_pem)
        self._client_anchors = tuple(client_anchors)
        self._context = _build_context(chain_pem, key_pem, self._client_anchors)

    def reload(self, chain_pem: bytes, key_pem: bytes) -> None:
        """Show this certificate to every connection from now on. On StartError the one before stays."""
        self._context = _build_context(chain_pem, key_pem, self._client_anchors)
        self._pair = (chain_pem, key_pem)

    def trust(self, client_anchors: Sequence[x509.Certificate]) -> None:
        """Take client certificates by these issuing CAs, and no others, on every connection from now on."""
        self._client_anchors = tuple(client_anchors)
        self._context = _build_context(*self._pair, self._client_anchors)

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """A fresh connection on the certificate of the day."""
        return SSL.Connection(self._context, None)


class PromptTls(BufferingTLSTransport):
    """TLS that can also send at once: Twisted's waits for the reactor's next turn, and the socket for the one after."""

    def write_at_once(self, data: bytes) -> None:
        """Encrypt and send `data` now, after whatever waits; the usual way sends what the socket does not take."""
        self._aggregator.flush()
        super().write(data)  # type: ignore[no-untyped-call]

    def _flushSendBIO(self) -> None:
        """As Twisted's, which would go on as ever if it were called otherwise."""
        try:
            encrypted = self._tlsConnection.bio_read(_PIECE)
        except SSL.WantReadError:
            return
        send_at_once(self.transport, encrypted)


def send_at_once(transport: Any, data: bytes) -> None:
    """Give a socket `data` now, which spares turns of the reactor; the usual way takes what it leaves."""
    at_rest = isinstance(transport, Connection) and transport.connected and not transport.disconnecting
    if at_rest and not (transport.dataBuffer or transport._tempDataBuffer):
        sent = transport.writeSomeData(data)
        if isinstance(sent, int) and sent >= 0:
            if sent == len(data):
                return
            data = data[sent:]
    transport.write(data)


class PromptTlsFactory(TLSMemoryBIOFactory):
    """Adds such TLS to the connections of a factory."""

    protocol = PromptTls


def _build_context(chain_pem: bytes, key_pem: bytes, client_anchors: tuple[x509.Certificate, ...]) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(CIPHERS)
    # A resumed session would carry a client certificate nobody looked at again, and have no channel binding.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"opencertd")
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    _load_pair(context, chain_pem, key_pem)
    context.set_verify(SSL.VERIFY_PEER)  # without FAIL_IF_NO_PEER_CERT: asked for, not required
    context.set_verify_depth(CHAIN_DEPTH)
    store = context.get_cert_store()
    assert store is not None  # noqa: S101  (a context that was just made has one)
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    for anchor in client_anchors:
        store.add_cert(crypto.X509.from_cryptography(anchor))
        context.add_client_ca(anchor)
    context.set_alpn_select_callback(_select_protocol)
    return context


def _select_protocol(_: SSL.Connection, offered: list[bytes]) -> bytes | SSL._NoOverlappingProtocols:
    """RFC 7301. Who offers only others is not sent away: most clients then speak HTTP/1.1 all the same."""
    return HTTP_1_1 if HTTP_1_1 in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _load_pair(context: SSL.Context, chain_pem: bytes, key_pem: bytes) -> None:
    try:
        leaf, *parents = x509.load_pem_x509_certificates(chain_pem)
    except ValueError as error:
        raise StartError(f"the TLS certificate file holds no PEM certificate: {error}") from None
    try:
        key = serialization.load_pem_private_key(key_pem, None)
    except (ValueError, TypeError) as error:
        raise StartError(f"the TLS key file holds no unencrypted PEM private key: {error}") from None
    try:
        context.use_certificate(leaf)
        for parent in parents:
            context.add_extra_chain_cert(parent)
        context.use_privatekey(tls_key(key))  # type: ignore[arg-type]  # another kind of key is a TypeError
        context.check_privatekey()
    except (SSL.Error, TypeError):
        raise StartError("the TLS certificate and the TLS key do not belong together") from None
