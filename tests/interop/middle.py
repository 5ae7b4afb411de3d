"""Somebody in the middle: ends TLS for a client and for a server, and passes on all that they say, unchanged."""

from __future__ import annotations

import asyncio
import contextlib
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
        self._loop = asyncio.new_event_loop()
        starting = asyncio.start_server(self._pass_on, "127.0.0.1", 0, ssl=self._serving)
        self._server = self._loop.run_until_complete(starting)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.heard = b""

    def limit(self, version: ssl.TLSVersion) -> None:
        """Speak this version on both sides."""
        for context in (self._serving, self._asking):
            context.minimum_version = context.maximum_version = version

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            there, back = await asyncio.open_connection(
                "localhost", self._behind, ssl=self._asking, server_hostname="localhost"
            )
            with contextlib.closing(back):
                await asyncio.gather(self._copy(reader, back, heard=True), self._copy(there, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, heard: bool = False) -> None:
        with contextlib.closing(writer):
            while piece := await reader.read(65536):
                self.heard += piece if heard else b""
                writer.write(piece)
                await writer.drain()

    def serve(self) -> None:
        """Until `close`, in the thread that calls this."""
        self._loop.run_forever()

    def close(self) -> None:
        """End; from another thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)


@contextlib.contextmanager
def middle(port: int, certificate: Path, key: Path) -> Iterator[Middle]:
    """Somebody between clients and what listens on `port`."""
    found = Middle(port, certificate, key)
    thread = threading.Thread(target=found.serve, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        found.close()
        thread.join(10)
