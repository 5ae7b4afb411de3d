"""What is answered again is what the ordinary way answers, for less than a second; large answers wait for readers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest

from opencertd.ca_api.certificates import CertificatesResource, certificates_edge
from opencertd.clock import FixedClock
from opencertd.crl.resource import edge as crl_edge
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuer
from opencertd.web.express import LARGE
from opencertd.web.limits import Limits
from opencertd.web.refusals import new_app
from opencertd.web.remembered import FRESH, LONGEST, MOST, Remembered
from opencertd.web.site import Edge, build_site
from tests.crl.rig import Rig
from tests.ocsp.pki import NOW, pki
from tests.web.wire import Wire

GET = b"%s %s HTTP/1.1\r\nHost: ca.test\r\n%s\r\n"
PATHS = (b"/ca/crl", b"/ca/ecdsa/crl", b"/ca/rsa/crl?format=pem", b"/ca/crl?format=pem", b"/ca/default/crl")
PATHS += (b"/ca/certificate", b"/ca/rsa/certificate?format=pem", b"/ca/ecdsa/certificate?format=p7c")
NOWHERE = (b"/ca/nobody/crl", b"/ca/crl?format=xml", b"/ca/certificate?format=xml", b"/ca/crl/")
ACCEPTS = (b"", b"Accept: */*\r\n", b"Accept: application/x-pem-file\r\n", b"Accept: a/b\r\nAccept: c/d\r\n")
Answer = tuple[bytes, dict[bytes, bytes], bytes]


def get(path: bytes, headers: bytes = b"", method: bytes = b"GET") -> bytes:
    return GET % (method, path, headers)


def answers(data: bytes, *, bodies: bool = True) -> list[Answer]:
    """Status line, headers without the date, and body of each answer."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        headers = {name.lower(): value for name, value in (line.split(b": ", 1) for line in lines)}
        assert len(headers) == len(lines), "a header stands twice"
        assert headers.pop(b"date", None)
        length = int(headers.get(b"content-length", 0)) if bodies and b"304" not in status else 0
        found.append((status, headers, data[:length]))
        data = data[length:]
    return found


class Pair:
    """Connections to CRLs and CA certificates as a moment later: by what is remembered, and without it."""

    def __init__(self) -> None:
        self.rig = Rig()
        for serial in range(3):
            self.rig.store.revoke(pki().ecdsa, serial)
        Deferred.fromCoroutine(self.rig.server.ensure())
        self.rig.clock.advance(timedelta(seconds=5))
        api: Any = type("Api", (), {"issuer": staticmethod(self.issuer)})()
        self.edges = (
            crl_edge(server=self.rig.server, issuer_for=self.issuer, clock=self.rig.clock),
            certificates_edge(CertificatesResource(server=api, clock=self.rig.clock)),
        )
        for path in PATHS:
            for accept in ACCEPTS:
                self.wire(None).send(get(path, accept))

    def issuer(self, name: str | None, spki_der: bytes | None = None) -> Issuer:
        found = self.rig.issuers.by_name({None: "ecdsa", "default": "ecdsa"}.get(name, str(name)))
        if found is None:
            raise Refusal(RefusalKind.NOT_FOUND, "there is no such issuer")
        return found

    def wire(self, clock: Any) -> Wire:
        reactor = Clock()
        reactor.advance(1000)
        return Wire(build_site(self.edges, reactor=reactor, clock=clock), reactor)

    def both(self, data: bytes) -> tuple[Wire, bytes, bytes]:
        """By what is remembered, and without it."""
        wire = self.wire(self.rig.clock)
        return wire, wire.send(data), self.wire(None).send(data)


PAIR = Pair()


def _etag(path: bytes) -> bytes:
    return answers(PAIR.wire(None).send(get(path)))[0][1][b"etag"]


CONDITIONS = [
    b"",
    b'If-None-Match: "other"\r\n',
    b"If-None-Match: *\r\n",
    *(b"If-None-Match: %s\r\n" % _etag(path) for path in (PATHS[0], PATHS[2], PATHS[5])),
    b"If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n",
    b"If-Modified-Since: Fri, 01 Jan 2010 00:00:00 GMT\r\n",
    b"If-Modified-Since: yesterday\r\n",
]


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("path", PATHS)
def test_each_request_has_the_ordinary_answer_at_once(path: bytes, method: bytes) -> None:
    for accept in ACCEPTS:
        for condition in CONDITIONS:
            wire, got, expected = PAIR.both(get(path, accept + condition, method))
            assert answers(got, bodies=method == b"GET") == answers(expected, bodies=method == b"GET")
            assert bool(wire.channel._served_at) is (accept.count(b"Accept") < 2)
            assert not wire.closed


requests = st.builds(
    get, st.sampled_from(PATHS + NOWHERE), st.sampled_from(CONDITIONS), st.just(b"GET")
) | st.sampled_from([get(PATHS[0], b"Range: bytes=0-1\r\n"), get(PATHS[0], method=b"POST")])


@settings(max_examples=100, deadline=None)
@given(st.lists(requests, max_size=6), st.booleans(), st.lists(st.integers(0, 1500), max_size=8))
def test_pipelined_and_split_anywhere_they_are_answered_as_if_whole(
    asked: list[bytes], ending: bool, cuts: list[int]
) -> None:
    data = b"".join(asked) + (get(PATHS[0], b"Connection: close\r\n") if ending else b"")
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    express, ordinary = PAIR.wire(PAIR.rig.clock), PAIR.wire(None)
    got = b"".join(express.send(data[start:end]) for start, end in pairwise(edges))
    assert answers(got) == answers(ordinary.send(data))
    assert express.closed == ordinary.closed == ending


def test_every_byte_boundary() -> None:
    data = get(PATHS[0]) + get(PATHS[5], CONDITIONS[1])
    expected = answers(PAIR.wire(None).send(data))
    for cut in range(len(data)):
        wire = PAIR.wire(PAIR.rig.clock)
        assert answers(wire.send(data[:cut]) + wire.send(data[cut:])) == expected, cut


def test_another_workers_crl_shows_within_a_second_and_somebody_looks_before() -> None:
    pair = Pair()
    wire = pair.wire(pair.rig.clock)
    first = wire.send(get(b"/ca/crl"))
    pair.rig.store.revoke(pki().ecdsa, 77)
    Deferred.fromCoroutine(pair.rig.other.publish(pki().ecdsa.issuer.id))
    assert answers(wire.send(get(b"/ca/crl"))) == answers(first)
    pair.rig.clock.advance(FRESH)
    second = wire.send(get(b"/ca/crl"))
    assert answers(second)[0][2] != answers(first)[0][2]
    pair.rig.clock.advance(timedelta(seconds=1))
    assert answers(wire.send(get(b"/ca/crl")))[0][2] == answers(second)[0][2]
    assert LONGEST.total_seconds() < 1


def test_while_somebody_waits_for_the_store_the_others_have_what_there_was_but_not_for_long() -> None:
    pair = Pair()
    pair.rig.clock.advance(FRESH)
    waiting: Deferred[int] = Deferred()
    latest_number, pair.rig.store.latest_number = pair.rig.store.latest_number, lambda issuer_id: waiting  # type: ignore[method-assign]
    one, other, third = (pair.wire(pair.rig.clock) for _ in range(3))
    assert one.send(get(b"/ca/crl")) == b""
    assert len(answers(other.send(get(b"/ca/crl")))) == 1
    pair.rig.clock.advance(LONGEST - FRESH)
    assert third.send(get(b"/ca/crl")) == b""
    pair.rig.store.latest_number = latest_number  # type: ignore[method-assign]
    waiting.callback(pair.rig.store.kept[pki().ecdsa.issuer.id][-1].number)
    assert len(answers(one.received())) == len(answers(third.received())) == 1


def test_a_clock_that_is_set_back_ends_what_is_remembered() -> None:
    pair = Pair()
    pair.rig.clock.advance(timedelta(seconds=-2))
    wire = pair.wire(pair.rig.clock)
    assert answers(wire.send(get(b"/ca/crl")))
    assert not wire.channel._served_at


@dataclass
class Files:
    """A site with one file of a given size under any query."""

    size: int
    clock: FixedClock

    def __post_init__(self) -> None:
        self.remembered = Remembered(self.clock)
        self.content = bytes(range(256)) * (self.size // 256)
        app = new_app()

        @app.route("/file")  # type: ignore[untyped-decorator]
        def file(request: IRequest) -> bytes:
            changed_at = self.clock.now() - timedelta(days=1)
            return self.remembered.answer(
                request, self.content, etag='"x"', changed_at=changed_at, since=self.clock.now()
            )

        resource = app.resource()
        self.edge = Edge("file", resource, lambda segments: True, plain_http=True, lane=self.remembered)

    def wire(self, limits: Limits | None = None) -> Wire:
        reactor = Clock()
        reactor.advance(1000)
        return Wire(build_site([self.edge], reactor=reactor, clock=self.clock, limits=limits), reactor)


def test_strangers_who_write_a_target_in_many_ways_fill_no_memory() -> None:
    files = Files(1024, FixedClock(NOW))
    wire = files.wire()
    for number in range(3 * MOST):
        assert len(answers(wire.send(get(b"/file?%d" % number)))) == 1
    assert len(files.remembered._kept) == MOST
    files.clock.advance(LONGEST)
    wire.send(get(b"/file"))
    assert len(files.remembered._kept) == 1


class SlowReader(Wire):
    """A client that takes `room` octets at a time, and whose transport says so."""

    def __init__(self, wire: Wire, room: int) -> None:
        self.reactor, self.channel, self.transport = wire.reactor, wire.channel, wire.transport
        self._room = room
        self.most = 0
        write = self.transport.write

        def pausing(data: bytes) -> None:
            write(data)
            self.most = max(self.most, len(self.transport.value()))
            if len(self.transport.value()) > self._room:
                self.channel.pauseProducing()

        self.transport.write = pausing  # type: ignore[method-assign]

    def take(self) -> bytes:
        """What is there; then there is room again."""
        data = self.received()
        if self.channel._waitingForTransport:
            self.channel.resumeProducing()
        return data


LARGE_SIZE = 40 * LARGE


@pytest.mark.parametrize("lane", [False, True])
@pytest.mark.parametrize("closes", [False, True])
def test_a_large_answer_is_written_as_its_reader_takes_it(closes: bool, lane: bool) -> None:
    files = Files(LARGE_SIZE, FixedClock(NOW))
    if lane:
        files.wire().channel.dataReceived(get(b"/file"))
    reader = SlowReader(files.wire(), LARGE)
    reader.channel.dataReceived(get(b"/file", b"Connection: close\r\n" if closes else b"") + get(b"/file") * 2)
    data, times = b"", 0
    while piece := reader.take():
        data, times = data + piece, times + 1
    found = answers(data)
    assert [body for _, _, body in found] == [files.content] * (1 if closes else 3)
    assert times > 20
    assert reader.most < 4 * LARGE, "what is not read is not copied"
    assert reader.closed is closes


@pytest.mark.parametrize("lane", [False, True])
def test_who_does_not_read_a_large_answer_is_let_go_after_an_answers_time(lane: bool) -> None:
    files = Files(LARGE_SIZE, FixedClock(NOW))
    if lane:
        files.wire().channel.dataReceived(get(b"/file"))
    reader = SlowReader(files.wire(Limits(idle_seconds=60, answer_seconds=600)), LARGE)
    reader.channel.dataReceived(get(b"/file"))
    for _ in range(9):
        reader.reactor.advance(60)
        reader.take()
        assert not reader.closed
    reader.reactor.advance(60)
    for _ in range(3):
        reader.reactor.advance(60)
    assert reader.closed
    assert reader.most < 4 * LARGE


@pytest.mark.parametrize("lane", [False, True])
def test_a_client_that_hangs_up_amid_a_large_answer_leaves_nothing(lane: bool) -> None:
    files = Files(LARGE_SIZE, FixedClock(NOW))
    if lane:
        files.wire().channel.dataReceived(get(b"/file"))
    reader = SlowReader(files.wire(), LARGE)
    reader.channel.dataReceived(get(b"/file"))
    assert reader.channel._rest is not None
    reader.channel.connectionLost(Failure(ConnectionDone()))
    assert reader.channel._rest is None
