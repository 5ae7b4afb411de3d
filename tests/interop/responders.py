"""What a client's machine answers during validation: tokens by http-01, and DNS that leads every name to loopback.

Both are stateless towards the names, so that a load of any size needs no bookkeeping between processes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KeyAuthorization = Callable[[str, str], str | None]
"""(host name, token) → key authorization, or None for 404."""


class Http01(asyncio.Protocol):
    """Answers `GET /.well-known/acme-challenge/TOKEN`; one answer a connection unless the peer keeps it."""

    def __init__(self, key_authorization: KeyAuthorization) -> None:
        self._key_authorization = key_authorization
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received and self._transport is not None:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            self._transport.write(self._answer(head.decode("latin-1")))

    def _answer(self, head: str) -> bytes:
        lines = head.split("\r\n")
        path = lines[0].split(" ")[1] if lines[0].count(" ") >= 2 else ""
        hosts = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("host:")]
        host = hosts[0].partition(":")[0] if hosts else ""
        found = self._key_authorization(host, path.rpartition("/")[2])
        status, body = ("200 OK", found) if found else ("404 Not Found", "no such token")
        return (
            f"HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        ).encode()


class LoopbackDns(asyncio.DatagramProtocol):
    """Every name has the address 127.0.0.1 and nothing else (RFC 1035 by hand: one question, one answer)."""

    _ADDRESS = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x7f\x00\x00\x01"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        end = 12
        while end < len(data) and data[end]:
            end += data[end] + 1
        question = data[12 : end + 5]
        if len(data) < 17 or len(question) < 5:
            return
        is_address = question[-4:] == b"\x00\x01\x00\x01"
        head = data[:2] + b"\x85\x80" + b"\x00\x01" + (b"\x00\x01" if is_address else b"\x00\x00") + bytes(4)
        answer = head + question + (self._ADDRESS if is_address else b"")
        self._transport.sendto(answer, addr)  # type: ignore[attr-defined]


class Webroot:
    """A directory served over plain HTTP in a thread: what clients with hooks write their tokens into."""

    def __init__(self, directory: Path, port: int) -> None:
        self.challenges = directory / ".well-known" / "acme-challenge"
        self.challenges.mkdir(parents=True, exist_ok=True)
        self._server = ThreadingHTTPServer(("127.0.0.1", port), partial(QuietFiles, directory=str(directory)))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Webroot:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class QuietFiles(SimpleHTTPRequestHandler):
    """Serves files and prints nothing."""

    def log_message(self, format: str, *args: object) -> None:
        pass
