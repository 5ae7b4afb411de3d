"""The express lane answers as the ordinary way does, whatever is asked and however it arrives."""

from __future__ import annotations

import base64
from datetime import timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.x509 import ocsp as peer
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from opencertd.ocsp.resource import edge
from opencertd.web.site import build_site
from tests.ocsp.rig import Rig
from tests.web.wire import Wire

POST = b"POST %s HTTP/1.1\r\nHost: ca.test\r\nContent-Type: application/ocsp-request\r\n%sContent-Length: %d\r\n\r\n%s"
GET = b"GET %s HTTP/1.1\r\nHost: ca.test\r\n%s\r\n"
Answer = tuple[bytes, dict[bytes, bytes], bytes]


class Pair:
    """Two connections to one responder that has prepared serials 1 to 3: by the express lane, and without it."""

    def __init__(self) -> None:
        self.rig = Rig()
        for serial in (1, 2, 3):
            answered = Deferred.fromCoroutine(self.rig.server.answer(self.rig.request(serial)))
            assert answered.called
        self.edge = edge(server=self.rig.server, clock=self.rig.clock)
        self.express = self.wire(self.rig.clock)
        self.ordinary = self.wire(None)

    def wire(self, clock: Any) -> Wire:
        reactor = Clock()
        reactor.advance(1000)
        return Wire(build_site([self.edge], reactor=reactor, clock=clock), reactor)

    def took_the_lane(self) -> bool:
        return bool(self.express.channel._served_at)

    def etag(self, serial: int) -> bytes:
        answer = self.rig.server.at_hand(self.rig.request(serial), self.rig.clock.now())
        assert answer is not None
        return answer.etag.encode()


def post(body: bytes, headers: bytes = b"", path: bytes = b"/ca/ocsp") -> bytes:
    return POST % (path, headers, len(body), body)


def get(body: bytes, headers: bytes = b"", path: bytes = b"/ca/ocsp", *, safe: str = "") -> bytes:
    return GET % (path + b"/" + quote(base64.b64encode(body), safe=safe).encode(), headers)


def answers(data: bytes) -> list[Answer]:
    """Status line, headers without the date, and body of each answer."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        headers = {name.lower(): value for name, value in (line.split(b": ", 1) for line in lines)}
        assert len(headers) == len(lines), "a header stands twice"
        assert headers.pop(b"date", None)
        length = int(headers.get(b"content-length", 0)) if b"304" not in status else 0
        found.append((status, headers, data[:length]))
        data = data[length:]
    return found


PAIR = Pair()
ONE, TWO = PAIR.rig.request(1), PAIR.rig.request(2)
QUICK = {
    "post": post(ONE),
    "post to a profile": post(ONE, path=b"/ca/rsa/ocsp/"),
    "post with strange headers": post(ONE, b"X-A: b\r\nAccept: */*\r\nUser-Agent: a b\tc\r\n"),
    "get": get(TWO),
    "get with bare slashes": get(TWO, safe="/+="),
    "get of a profile": get(ONE, path=b"/ca/ecdsa/ocsp"),
    "get, not modified": get(ONE, b"If-None-Match: %s\r\n" % PAIR.etag(1)),
    "get, modified": get(ONE, b'If-None-Match: "other"\r\n'),
    "get by date": get(ONE, b"If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n"),
    "get by no date": get(ONE, b"If-Modified-Since: yesterday\r\n"),
}
SLOW = {
    "unprepared": post(PAIR.rig.request(4)),
    "not OCSP": post(b"hello"),
    "empty": post(b""),
    "another type": post(ONE).replace(b"ocsp-request", b"json"),
    "get nonsense": get(b"hello"),
    "another path": GET % (b"/ca/oscp/x", b""),
    "query": GET % (b"/ca/ocsp/AAAA?x=1", b""),
    "HEAD": get(ONE).replace(b"GET", b"HEAD"),
    "PUT": post(ONE).replace(b"POST", b"PUT"),
    "two hosts": post(ONE, b"Host: other\r\n"),
    "no host": post(ONE).replace(b"Host: ca.test\r\n", b""),
    "absolute form": post(ONE).replace(b"POST /", b"POST http://ca.test/"),
    "chunked": post(ONE)
    .replace(b"Content-Length: %d" % len(ONE), b"Transfer-Encoding: chunked")
    .replace(b"\r\n\r\n" + ONE, b"\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(ONE), ONE)),
    "an expectation": post(ONE, b"Expect: nothing\r\n"),
    "a range": get(ONE, b"Range: bytes=0-1\r\n"),
    "a get with a body": get(ONE, b"Content-Length: 3\r\n") + b"abc",
}
ENDING = {
    "close": post(ONE, b"Connection: close\r\n"),
    "get and close": get(ONE, b"Connection: Close\r\n"),
    "HTTP/1.0": post(ONE).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a folded header": post(ONE, b"X-A: b\r\n c\r\n"),
    "a header without a name": post(ONE, b": b\r\n"),
    "two lengths": post(ONE, b"Content-Length: 3\r\n"),
    "a signed length": post(ONE).replace(b"Length: ", b"Length: +"),
    "nonsense": b"\x16\x03\x01\r\n\r\n",
}


@pytest.mark.parametrize("name", [*QUICK, *SLOW, *ENDING])
def test_each_request_has_the_ordinary_answer(name: str) -> None:
    pair = Pair()
    request = (QUICK | SLOW | ENDING)[name].replace(PAIR.etag(1), pair.etag(1))
    got, expected = answers(pair.express.send(request)), answers(pair.ordinary.send(request))
    assert got == expected
    assert len(got) == (0 if name == "a folded header" and not expected else 1)
    assert pair.express.closed == pair.ordinary.closed
    assert pair.took_the_lane() == (name in QUICK or name in {"close", "get and close", "HEAD"})


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([*QUICK.values(), *(SLOW[name] for name in SLOW if name != "HEAD")]), max_size=6),
    st.sampled_from([b"", *ENDING.values()]),
    st.lists(st.integers(0, 4000), max_size=8),
)
def test_pipelined_and_split_anywhere_they_are_answered_as_if_whole(
    requests: list[bytes], ending: bytes, cuts: list[int]
) -> None:
    data = b"".join(requests) + ending
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    express, ordinary = PAIR.wire(PAIR.rig.clock), PAIR.wire(None)
    got = b"".join(express.send(data[start:end]) for start, end in pairwise(edges))
    assert answers(got) == answers(ordinary.send(data))
    assert express.closed == ordinary.closed


def test_every_byte_boundary() -> None:
    data = post(ONE) + get(TWO)
    expected = answers(PAIR.wire(None).send(data))
    for cut in range(len(data)):
        wire = PAIR.wire(PAIR.rig.clock)
        assert answers(wire.send(data[:cut]) + wire.send(data[cut:])) == expected, cut
    wire = PAIR.wire(PAIR.rig.clock)
    assert answers(b"".join(wire.send(data[at : at + 1]) for at in range(len(data)))) == expected


LIVE = Pair()
LIVE.rig.server.start()


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=100), st.booleans(), st.lists(st.integers(0, 500), max_size=4))
def test_with_a_nonce_they_differ_in_nothing_but_the_signature(nonce: bytes, by_get: bool, cuts: list[int]) -> None:
    request = LIVE.rig.request(2, nonce=nonce)
    data = get(request) if by_get else post(request)
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    express, ordinary = LIVE.wire(LIVE.rig.clock), LIVE.wire(None)
    said = []
    for got in (b"".join(express.send(data[start:end]) for start, end in pairwise(edges)), ordinary.send(data)):
        ((status, headers, body),) = answers(got)
        response = peer.load_der_ocsp_response(body)
        assert headers.pop(b"content-length") == b"%d" % len(body)
        said.append((status, headers, response.tbs_response_bytes))
    assert said[0] == said[1]


def test_with_a_nonce_it_is_signed_in_the_lane_while_revocations_are_heard_of() -> None:
    pair = Pair()
    data = post(pair.rig.request(1, nonce=b"nonce"))
    assert answers(pair.express.send(data))
    assert not pair.took_the_lane()
    pair.rig.server.start()
    assert answers(pair.express.send(data))
    assert pair.took_the_lane()


def test_a_revoked_certificate_is_good_no_more() -> None:
    pair = Pair()
    assert b"304" not in pair.express.send(get(ONE))
    pair.rig.revoke(1)
    pair.rig.server.note_revoked(pair.rig.pki.ecdsa.issuer.id, 1)
    for request in (post(ONE), get(ONE)):
        (answer,) = answers(pair.express.send(request))
        assert peer.load_der_ocsp_response(answer[2]).certificate_status is peer.OCSPCertStatus.REVOKED


def test_what_has_run_out_is_not_given() -> None:
    pair = Pair()
    first = pair.express.send(get(ONE))
    pair.rig.clock.advance(timedelta(minutes=31))
    (second,) = answers(pair.express.send(get(ONE)))
    assert second[2] != answers(first)[0][2]


def test_a_client_that_does_not_read_is_sent_no_more_than_a_bounded_amount() -> None:
    pair = Pair()
    channel = pair.express.channel
    channel.pauseProducing()
    for _ in range(3):
        assert pair.express.send(post(ONE) * 2) == b""
    channel.resumeProducing()
    assert len(answers(pair.express.received())) == 6


def test_a_connection_in_use_is_not_idle() -> None:
    pair = Pair()
    for _ in range(5):
        pair.express.reactor.advance(40)
        assert pair.express.send(post(ONE))
        assert not pair.express.closed
    pair.express.reactor.advance(61)
    assert pair.express.closed
