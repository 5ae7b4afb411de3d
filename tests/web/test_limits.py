"""A client may send so much, for so long, and no byte more is kept."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from klein import Klein
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.web.iweb import IRequest

from opencertd.web.limits import Limits
from opencertd.web.refusals import body_of, handle_refusals, new_app, render_problem
from opencertd.web.site import build_site

from .wire import Wire, edge, get, parse, problem, wire

POST = b"POST /api/size HTTP/1.1\r\nHost: ca.test\r\n"


def sizes() -> Klein:
    """An app that answers with the size of the body it got."""
    app = new_app()

    @app.route("/api/size", methods=["POST"])
    @app.route("/small/size", methods=["POST"], endpoint="small")
    def size(request: IRequest) -> bytes:
        return b"%d" % len(body_of(request))

    handle_refusals(app, render_problem)
    return app


def client(**limits: Any) -> Wire:
    app = sizes()
    small = edge(app, under="small", body_limit=10)
    return wire(small, edge(app, body_limit=1000), limits=Limits(**limits))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def assert_closing(peer: Wire) -> None:
    """Nothing more is answered, nothing kept, and the connection is closed after the linger."""
    before = len(peer.channel.requests)
    assert peer.send(b"x" * 100_000 + get("/api/size")) == b""
    assert len(peer.channel.requests) == before
    assert not peer.closed
    peer.reactor.advance(2.1)
    assert peer.closed


@pytest.mark.parametrize(("path", "limit"), [("/api/size", 1000), ("/small/size", 10), ("/nowhere", 65536)])
def test_each_edge_has_its_own_body_limit(path: str, limit: int) -> None:
    fits = client().send(get(path, method="POST", body=b"x" * limit))
    assert parse(fits)[0] in {200, 404}
    head = f"POST {path}?a=1 HTTP/1.1\r\nHost: a\r\nContent-Length: {limit + 1}\r\n\r\n"
    assert problem(client().send(head.encode()))["status"] == 413


def test_a_body_announced_too_large_is_refused_before_it_is_sent() -> None:
    peer = client()
    answer = peer.send(POST + b"Content-Length: 30000000\r\nExpect: 100-continue\r\n\r\n")
    assert problem(answer)["status"] == 413
    assert parse(answer)[1]["connection"] == "close"
    assert_closing(peer)


def test_a_chunked_body_is_refused_at_the_byte_too_many() -> None:
    peer = client()
    assert peer.send(POST + b"Transfer-Encoding: chunked\r\n\r\n") == b""
    for _ in range(10):
        assert peer.send(chunk(b"x" * 100)) == b""
    kept = peer.channel.requests[-1].content
    assert problem(peer.send(chunk(b"y") + chunk(b"z" * 5000) + b"0\r\n\r\n"))["status"] == 413
    assert len(kept.getvalue()) == 1000
    assert_closing(peer)


def test_a_chunked_body_within_the_limit_arrives() -> None:
    peer = client()
    peer.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    assert parse(peer.send(chunk(b"x" * 600) + chunk(b"y" * 400) + b"0\r\n\r\n"))[2] == b"1000"


@pytest.mark.parametrize("digits", ["9" * 30, "9" * 5000, "1" + "0" * 100])
def test_absurd_lengths_are_too_large(digits: str) -> None:
    assert problem(client().send(POST + f"Content-Length: {digits}\r\n\r\n".encode()))["status"] == 413


def test_who_expects_100_continue_gets_it() -> None:
    peer = client()
    assert peer.send(POST + b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n") == (b"HTTP/1.1 100 Continue\r\n\r\n")
    assert parse(peer.send(b"abcd"))[2] == b"4"


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"X: " + b"a" * 20000 + b"\r\n", 431),
        (b"X: " + b"a" * 20000, 431),
        ((b"X: " + b"a" * 1000 + b"\r\n") * 20, 431),
        (b"X: a\r\n" * 101, 431),
        (b"no colon\r\n", 400),
        (b"bad name: a\r\n", 400),
        (b"X: a\x00b\r\n", 400),
        (b"Content-Length: 1\r\nContent-Length: 2\r\n", 400),
        (b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"Content-Length: -1\r\n", 400),
        (b"Content-Length: 0x10\r\n", 400),
        (b"Transfer-Encoding: gzip\r\n", 400),
    ],
)
def test_bad_headers_are_refused_and_the_connection_closed(header: bytes, status: int) -> None:
    peer = client()
    answer = peer.send(POST + header)
    answer += peer.send(b"\r\n" if not answer else b"")
    assert problem(answer)["status"] == status
    assert_closing(peer)


@pytest.mark.parametrize(
    "line", [b"GET", b"GET /", b"GET  / HTTP/1.1", b"\x16\x03\x01\x02", b"GET / HTTP/9.9", b"G\xff / HTTP/1.1"]
)
def test_bad_request_lines_are_refused(line: bytes) -> None:
    peer = client()
    assert problem(peer.send(line + b"\r\nHost: a\r\n\r\n"))["status"] == 400
    assert_closing(peer)


def test_a_bad_chunk_is_refused() -> None:
    peer = client()
    assert problem(peer.send(POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc"))["status"] == 400
    assert_closing(peer)


@pytest.mark.parametrize("sent", [b"P", POST, POST + b"Content-Length: 100\r\n\r\n"])
def test_a_sender_that_drips_is_cut_off_after_the_total_time(sent: bytes) -> None:
    peer = client()
    peer.send(sent)
    for _ in range(29):
        peer.reactor.advance(1)
        assert peer.send(b"X") == b""
    peer.reactor.advance(1.1)
    answer = peer.received()
    assert problem(answer)["status"] == 408
    assert_closing(peer)


def test_the_time_to_send_begins_anew_with_each_request() -> None:
    peer = client()
    for _ in range(5):
        peer.reactor.advance(29)
        peer.send(POST)
        peer.reactor.advance(29)
        assert parse(peer.send(b"Content-Length: 2\r\n\r\nab"))[2] == b"2"
    assert not peer.closed


def test_an_idle_connection_is_closed_after_a_minute() -> None:
    fresh, used = client(), client()
    parse(used.send(get("/api/size", method="POST", body=b"abc")))
    for peer in (fresh, used):
        peer.reactor.advance(59)
        assert not peer.closed
        peer.reactor.advance(1.1)
        assert peer.closed
        assert peer.received() == b""


def test_a_slow_answer_is_not_a_slow_sender() -> None:
    app = new_app()
    waiting: Deferred[bytes] = Deferred()
    app.route("/api/slow")(lambda request: waiting)
    peer = wire(edge(app))
    peer.send(get("/api/slow"))
    peer.reactor.advance(200)
    waiting.callback(b"done")
    assert parse(peer.received())[2] == b"done"
    peer.reactor.advance(59)
    assert not peer.closed


def test_pipelined_requests_are_answered_in_order_and_the_rest_is_timed() -> None:
    peer = client()
    one, two = (get("/api/size", method="POST", body=b"x" * size) for size in (1, 2))
    answers = peer.send(one + two + POST)
    assert [answer[-1:] for answer in answers.split(b"HTTP/1.1 200 OK")[1:]] == [b"1", b"2"]
    peer.send(b"X")
    peer.reactor.advance(30.1)
    assert problem(peer.received())["status"] == 408


def test_a_reader_that_takes_its_time_is_waited_for_and_not_for_ever() -> None:
    peer = client()
    peer.send(get("/api/size", method="POST", body=b"abc"))
    peer.channel.pauseProducing()  # the transport's buffer is full
    peer.reactor.pump([60] * 10)
    assert not peer.closed
    peer.reactor.pump([60] * 2)
    assert peer.closed
    peer.reactor.advance(16)
    assert peer.transport.disconnected


def test_a_reader_of_a_last_answer_is_not_waited_for_for_ever() -> None:
    peer = client()
    peer.send(get("/api/size", "Connection: close", method="POST", body=b"abc"))
    assert peer.closed
    peer.reactor.advance(599)
    assert not peer.transport.disconnected
    peer.reactor.advance(2)
    assert peer.transport.disconnected


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([
    b"\r\n", b"POST /api/size HTTP/1.1", b"GET /x HTTP/1.0", b"Host: a", b"Content-Length: 3", b":", b" fold",
    b"Content-Length: \xb2", b"Transfer-Encoding: chunked", b"3", b"abc", b"0", b"\x00", b"Expect: 100-continue",
    b"Cookie: =;;=", b"Authorization: ", b"\xff\xfe", b"Connection: close", b"?%%%", b"POST /%zz?%ff=%00 HTTP/1.1",
]), max_size=14))  # fmt: skip
def test_no_bytes_make_the_channel_raise(parts: list[bytes]) -> None:
    peer = client()
    peer.channel.dataReceived(b"\r\n".join(parts) + b"\r\n\r\n")
    peer.reactor.pump([60] * 3)
    assert peer.closed


@pytest.mark.parametrize("header", [b"Content-Length: 30000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
@pytest_twisted.ensureDeferred
async def test_a_client_that_sends_30_mb_over_a_socket_reads_the_413(header: bytes) -> None:
    site = build_site([edge(sizes())], reactor=reactor, limits=Limits(linger_seconds=0.5))  # type: ignore[arg-type]
    port = reactor.listenTCP(0, site, interface="127.0.0.1")  # type: ignore[attr-defined]

    def upload() -> bytes:
        with socket.create_connection(("127.0.0.1", port.getHost().port), timeout=10) as peer:
            peer.sendall(POST + header)
            piece = chunk(b"x" * 65536)

            def send() -> None:
                try:
                    for _ in range(460):
                        peer.sendall(piece)
                except OSError:
                    pass

            sender = threading.Thread(target=send)
            sender.start()
            answer = b""
            while b"\r\n\r\n{" not in answer or not answer.endswith(b"}"):
                answer += peer.recv(65536)
            sender.join()
            return answer

    try:
        assert problem(await deferToThread(upload))["status"] == 413
    finally:
        await port.stopListening()
