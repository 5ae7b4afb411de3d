"""A bare Twisted TLS listener: the daemon's TLS and no more. Each request is answered with the same two octets.

`python -m bench.bare_tls PORT CHAIN KEY ANCHORS WORKERS`: workers share one socket, as the daemon's do.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from cryptography import x509
from twisted.internet.protocol import Factory, Protocol

from opencertd.web.tls import ServerTls

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Echo(Protocol):
    """Answers each piece that comes; a load's requests come in one."""

    def dataReceived(self, data: bytes) -> None:  # noqa: N802  (Twisted's name)
        assert self.transport is not None
        self.transport.write(ANSWER)


def serve(listening: socket.socket, chain: Path, key: Path, anchors: Path) -> None:
    """Until somebody ends the process."""
    from twisted.internet import reactor
    from twisted.protocols.tls import TLSMemoryBIOFactory

    trusted = x509.load_pem_x509_certificates(anchors.read_bytes())
    tls = ServerTls(chain.read_bytes(), key.read_bytes(), client_anchors=trusted)
    factory = TLSMemoryBIOFactory(tls, False, Factory.forProtocol(Echo))
    reactor.adoptStreamPort(listening.fileno(), socket.AF_INET, factory)
    reactor.run()


def main() -> None:
    """The command."""
    port, chain, key, anchors, workers = sys.argv[1:]
    listening = socket.create_server(("127.0.0.1", int(port)), backlog=512)
    listening.setblocking(False)
    for _ in range(int(workers) - 1):
        if os.fork() == 0:
            break
    serve(listening, Path(chain), Path(key), Path(anchors))


if __name__ == "__main__":
    main()
