"""Somebody in the middle: ends TLS for a client and for a server, and passes on all that they say, unchanged."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path


class Middle:
    """Listens with a certificate and key of its own, for clients that trust it; `heard` is what clients said."""

    def __init__(self, port: int, certificate: Path, key: Path) -> None:
        self._behind = port
        self._serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._serving.load_cert_chain(certificate, key)
        self._asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._asking.check_hostname = False
        self._asking.verify_mode = ssl.CERT_NONE
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.heard = b""

    def limit(self, version: ssl.TLSVersion) -> None:
        """Speak this version on both sides."""
        for context in (self._serving, self._asking):
            context.minimum_version = context.maximum_version = version

    def serve(self) -> None:
        """Until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), plain, socket.create_connection(("localhost", self._behind), 30) as beyond:
            plain.settimeout(30)
            with (
                self._serving.wrap_socket(plain, server_side=True) as client,
                self._asking.wrap_socket(beyond, server_hostname="localhost") as server,
            ):
                back = threading.Thread(target=_copy, args=(server, client), daemon=True)
                back.start()
                while piece := client.recv(65536):
                    self.heard += piece
                    server.sendall(piece)
                back.join(30)

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()


def _copy(source: ssl.SSLSocket, target: ssl.SSLSocket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)


@contextlib.contextmanager
def middle(port: int, certificate: Path, key: Path) -> Iterator[Middle]:
    """Somebody between clients and what listens on `port`."""
    found = Middle(port, certificate, key)
    threading.Thread(target=found.serve, daemon=True).start()
    try:
        yield found
    finally:
        found.close()
