"""One in-memory connection to a site: bytes in, bytes out, time by hand."""

from __future__ import annotations

import json
from typing import Any

from klein import Klein
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from opencertd.web.limits import Limits
from opencertd.web.site import Edge, EdgeSite, build_site


class Wire:
    """A client's end of one connection."""

    def __init__(self, site: EdgeSite, reactor: Clock) -> None:
        self.reactor = reactor
        self.transport = StringTransport(peerAddress=IPv4Address("TCP", "192.0.2.9", 4711))
        self.channel: Any = site.buildProtocol(self.transport.getPeer())
        self.channel.makeConnection(self.transport)

    def send(self, data: bytes) -> bytes:
        """Send, and answer everything that came back since the last time."""
        self.channel.dataReceived(data)
        return self.received()

    def received(self) -> bytes:
        data = self.transport.value()
        self.transport.clear()
        return data

    @property
    def closed(self) -> bool:
        return bool(self.transport.disconnecting or self.transport.disconnected)


def wire(*edges: Edge, plain: bool = False, limits: Limits | None = None) -> Wire:
    reactor = Clock()
    return Wire(build_site(edges, reactor=reactor, plain=plain, limits=limits), reactor)


def edge(app: Klein, *, under: str = "api", plain_http: bool = False, body_limit: int = 65536) -> Edge:
    """An edge that claims everything below `under`."""
    return Edge(under, app.resource(), lambda segments: segments[:1] == (under,), plain_http, body_limit)


def get(path: str, *headers: str, method: str = "GET", body: bytes = b"", host: str = "ca.test") -> bytes:
    """The bytes of a request, with a Content-Length when it has a body."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def parse(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (lower case) and body of exactly one answer with a Content-Length."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("ascii").split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    length = int(headers.get("content-length", "0"))
    assert len(rest) in {length, 0}, answer
    return int(status.split(" ")[1]), headers, rest


def problem(answer: bytes) -> dict[str, Any]:
    """The problem document of one answer, whose status agrees with it."""
    status, headers, body = parse(answer)
    assert headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = json.loads(body)
    assert document["status"] == status
    return document
