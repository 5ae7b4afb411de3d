"""HTTP/1.1 over one kept connection, by asyncio alone: small enough that a load generator spends little on it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

HEAD_LIMIT = 65536


@dataclass(frozen=True)
class Answer:
    """One response; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """One connection to one server, opened when needed. A failure of it is a `ConnectionError` or `TimeoutError`."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None, timeout: float = 30.0) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._timeout = timeout
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Send a request and read its answer; the connection is opened again after the server closed it."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}:{self._port}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join([*lines, "", ""]).encode()
        try:
            async with asyncio.timeout(self._timeout):
                reader, writer = self._streams or await self._open()
                writer.write(head + (body or b""))
                return await self._read(reader, method)
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError) as error:
            self.close()
            raise ConnectionError(str(error)) from error
        except TimeoutError:
            self.close()
            raise

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._streams = await asyncio.open_connection(
            self._host,
            self._port,
            ssl=self._tls,
            server_hostname=self._host if self._tls else None,
            limit=HEAD_LIMIT,
        )
        return self._streams

    async def _read(self, reader: asyncio.StreamReader, method: str) -> Answer:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ", 2)[1])
        pairs = (line.partition(":") for line in head[1:] if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = b""
        if method != "HEAD" and status not in (204, 304):
            if headers.get("transfer-encoding", "").lower() == "chunked":
                body = await read_chunks(reader)
            else:
                body = await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(status, headers, body)

    @property
    def local_port(self) -> int | None:
        """Our port, while it is open."""
        return None if self._streams is None else int(self._streams[1].get_extra_info("sockname")[1])

    def close(self) -> None:
        """Drop the connection at once."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    """A chunked body (RFC 9112 §7.1)."""
    parts = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    while (await reader.readline()).strip():
        pass
    return b"".join(parts)


def client_tls(trust_anchors: str, certificate: str | None = None, key: str | None = None) -> ssl.SSLContext:
    """A context that trusts the file `trust_anchors` only, with a client certificate when one is given."""
    context = ssl.create_default_context(cafile=trust_anchors)
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context
