"""Slow senders: each sends a byte a second of something that never ends, until the daemon has had enough."""

from __future__ import annotations

import socket
import ssl
import threading
import time

from tests.interop.daemon import Daemon

PATIENCE = 75.0  # seconds within which a slow sender must be cut off


class Dripper(threading.Thread):
    """Sends one byte a second; `seconds` is how long the daemon let it, None while it still does."""

    def __init__(self, sock: socket.socket, start: bytes, drip: bytes) -> None:
        super().__init__(daemon=True)
        self._sock, self._start, self._drip = sock, start, drip
        self.seconds: float | None = None

    def run(self) -> None:
        began = time.monotonic()
        self._sock.settimeout(1.0)
        try:
            self._sock.sendall(self._start)
            while time.monotonic() < began + PATIENCE:
                self._sock.sendall(self._drip)
                try:
                    if not self._sock.recv(4096):
                        break
                except TimeoutError:
                    continue
            else:
                return
        except OSError:
            pass
        finally:
            self._sock.close()
        self.seconds = time.monotonic() - began


def tls_socket(ca: Daemon) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(ca.trust_anchors))
    return context.wrap_socket(tcp_socket(ca.port), server_hostname="localhost")


def tcp_socket(port: int) -> socket.socket:
    return socket.create_connection(("localhost", port), timeout=10)


def start_drippers(ca: Daemon) -> dict[str, Dripper]:
    """One of each kind, running."""
    post = b"POST /new-order HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n"
    chunked = b"POST /ca/csr HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    kinds = {
        "header over TLS": Dripper(tls_socket(ca), b"GET /directory HTTP/1.1\r\nX-Slow: ", b"a"),
        "body over TLS": Dripper(tls_socket(ca), post, b"a"),
        "chunks over TLS": Dripper(tls_socket(ca), chunked, b"1\r\na\r\n"),
        "header": Dripper(tcp_socket(ca.http_port), b"GET /ca/crl HTTP/1.1\r\nX-Slow: ", b"a"),
        "TLS handshake": Dripper(tcp_socket(ca.port), hello, b"\x00"),
    }
    for dripper in kinds.values():
        dripper.start()
    return kinds
