"""What the OpenSSL 4 inside `cryptography` says: Debian 12's own programs and Python know no ML-DSA.

Where the machine has an `openssl` of 3.5 or newer, it is asked too.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPResponse
from io import BytesIO
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto

from tests.interop.clients import openssl
from tests.interop.daemon import Daemon
from tests.interop.https import Identity
from tests.interop.wire import Answer


def verify(
    anchors: Sequence[x509.Certificate],
    chain: Sequence[x509.Certificate],
    leaf: x509.Certificate,
    crls: Sequence[x509.CertificateRevocationList] = (),
) -> str:
    """Path validation (RFC 5280 §6) by OpenSSL: empty when the leaf is valid, else its words."""
    store = crypto.X509Store()
    flags = crypto.X509StoreFlags.X509_STRICT
    if crls:
        flags |= crypto.X509StoreFlags.CRL_CHECK
    store.set_flags(flags)
    for anchor in anchors:
        store.add_cert(crypto.X509.from_cryptography(anchor))
    for crl in crls:
        store.add_crl(crl)
    between = [crypto.X509.from_cryptography(one) for one in chain]
    try:
        crypto.X509StoreContext(store, crypto.X509.from_cryptography(leaf), between).verify_certificate()
    except crypto.X509StoreContextError as error:
        return str(error)
    return ""


def knows_ml_dsa() -> bool:
    """Whether the machine's `openssl` is 3.5 or newer."""
    version = re.match(rb"OpenSSL (\d+)\.(\d+)", openssl("version").stdout)
    return version is not None and (int(version[1]), int(version[2])) >= (3, 5)


def verify_by_program(
    directory: Path, anchors: Path, chain: Sequence[x509.Certificate], leaf: x509.Certificate
) -> None:
    """`openssl verify`, where it is new enough."""
    if knows_ml_dsa():
        for name, certificates in (("chain", chain), ("leaf", [leaf])):
            (directory / name).write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in certificates))
        openssl("verify", "-x509_strict", "-CAfile", anchors, "-untrusted", directory / "chain", directory / "leaf")


def request(ca: Daemon, method: str, path: str, identity: Identity) -> Answer:
    """One HTTPS request by a client certificate whose key may be of any kind; the server is verified."""
    with connection(ca, identity) as peer:
        peer.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return read_answer(peer)


def group_of(ca: Daemon) -> str | None:
    """The key exchange that a client of OpenSSL 4 and the daemon agree on."""
    with connection(ca) as peer:
        return peer.get_group_name()


@contextmanager
def connection(ca: Daemon, identity: Identity | None = None) -> Iterator[SSL.Connection]:
    """TLS with the daemon, which is verified."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.load_verify_locations(str(ca.trust_anchors))
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    if identity is not None:
        context.use_certificate_file(str(identity.certificate_file))
        context.use_privatekey_file(str(identity.key_file))
    with socket.create_connection(("localhost", ca.port), timeout=30) as plain:
        plain.settimeout(None)  # pyOpenSSL knows no time limits of sockets
        peer = SSL.Connection(context, plain)
        peer.set_tlsext_host_name(b"localhost")
        peer.set_connect_state()
        peer.do_handshake()
        yield peer


class _Bytes:
    """What `HTTPResponse` reads from."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def makefile(self, mode: str) -> BytesIO:
        return BytesIO(self.data)


def read_answer(peer: SSL.Connection) -> Answer:
    """Everything until the server closes, read as HTTP."""
    received = b""
    try:
        while piece := peer.recv(65536):
            received += piece
    except (SSL.ZeroReturnError, SSL.SysCallError):
        pass
    response = HTTPResponse(_Bytes(received))  # type: ignore[arg-type]
    response.begin()
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
