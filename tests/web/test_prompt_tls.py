"""What the express lane answers by TLS goes out at once, in order with everything else, however slowly it is read."""

from __future__ import annotations

import socket
import ssl
from datetime import datetime
from typing import Any
from unittest.mock import patch

import pytest_twisted
from klein import Klein
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.web.iweb import IRequest

from opencertd.clock import SystemClock
from opencertd.web import tls
from opencertd.web.express import Fields, Reply
from opencertd.web.refusals import new_app
from opencertd.web.site import Edge, build_site
from opencertd.web.tls import PromptTlsFactory, ServerTls

from .pki import SERVER, build, issuing, root

LARGE = 300_000


class Sized:
    """A lane that answers `/N` with N octets; every other one by a Deferred."""

    def __init__(self) -> None:
        self.asked = 0

    def get(self, target: bytes, fields: Fields, now: datetime) -> Reply | None:
        return None

    def post(self, target: bytes, body: bytes, fields: Fields, now: datetime) -> Reply | Deferred[Reply] | None:
        if not target[1:].isdigit():
            return None
        self.asked += 1
        reply = Reply(b"Content-Length: %d\r\n" % int(target[1:]), b"x" * int(target[1:]))
        if self.asked % 2:
            return reply
        later: Deferred[Reply] = Deferred()
        reactor.callLater(0, later.callback, reply)  # type: ignore[attr-defined]
        return later


def ordinary() -> Klein:
    app = new_app()

    @app.route("/ordinary", methods=["POST"])
    def answer(_: IRequest) -> bytes:
        return b"ordinary"

    @app.route("/<int:size>", methods=["POST"])
    def sized(_: IRequest, size: int) -> bytes:
        return b"x" * size

    return app


def ask(target: bytes, headers: bytes = b"") -> bytes:
    return b"POST /%s HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n%s\r\n" % (target, headers)


async def exchange(requests: list[bytes]) -> tuple[bytes, int]:
    """Send all, then read to the end: what came, and how many requests took the lane."""
    server = build("localhost", issuing(), usages=(SERVER,))
    server_tls = ServerTls(server.pem + issuing().pem, server.key_pem, client_anchors=[issuing().certificate])
    lane = Sized()
    edge = Edge("sized", ordinary().resource(), lambda _: True, plain_http=True, lane=lane)
    site = build_site([edge], reactor=reactor, clock=SystemClock())  # type: ignore[arg-type]
    factory = PromptTlsFactory(server_tls, False, site, reactor)  # type: ignore[arg-type]
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]

    def talk() -> bytes:
        context = ssl.create_default_context(cadata=root().pem.decode())
        with (
            socket.create_connection(("127.0.0.1", port.getHost().port), timeout=20) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as peer,
        ):
            for request in requests:
                peer.sendall(request)
            answer = b""
            while piece := peer.recv(65536):
                answer += piece
            return answer

    try:
        return await deferToThread(talk), lane.asked
    finally:
        await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_answers_of_both_ways_come_in_the_order_of_their_requests() -> None:
    asked = [ask(b"3"), ask(b"ordinary"), ask(b"5") + ask(b"ordinary") + ask(b"7"), ask(b"9", b"Connection: close\r\n")]
    answer, by_lane = await exchange(asked)
    bodies = [part.partition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert bodies == [b"xxx", b"ordinary", b"xxxxx", b"ordinary", b"x" * 7, b"x" * 9]
    assert by_lane >= 1


@pytest_twisted.ensureDeferred
async def test_more_than_the_socket_takes_arrives_whole() -> None:
    asked = [ask(b"%d" % LARGE)] * 20 + [ask(b"1", b"Connection: close\r\n")]
    answer, by_lane = await exchange(asked)
    bodies = [part.partition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert bodies == [b"x" * LARGE] * 20 + [b"x"]
    assert by_lane == 21


@pytest_twisted.ensureDeferred
async def test_what_the_socket_took_needs_no_turn_of_the_reactor() -> None:
    """Guards Twisted's private names: without them answers are right, but late."""
    turns: list[bool] = []
    send = tls.send_at_once

    def watched(transport: Any, data: bytes) -> None:
        send(transport, data)
        turns.append(bool(transport._tempDataBuffer or transport.dataBuffer))

    with patch.object(tls, "send_at_once", watched):
        await exchange([ask(b"3"), ask(b"5", b"Connection: close\r\n")])
    assert len(turns) >= 3  # the handshake, too
    assert not any(turns)
