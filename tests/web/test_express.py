"""An answer of the express lane may come later; until then nothing else is answered, and little is read."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from opencertd.clock import FixedClock
from opencertd.web.express import Fields, Reply, parse_fields
from opencertd.web.limits import Limits
from opencertd.web.refusals import new_app
from opencertd.web.site import Edge, build_site
from tests.web.wire import Wire

REQUEST = b"POST /%s HTTP/1.1\r\nHost: ca.test\r\nContent-Length: 2\r\n%s\r\nab"
ELSEWHERE = b"POST /elsewhere HTTP/1.1\r\nHost: ca.test\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("value", [b" " * 4000 + b"\x80", b"x" + b" " * 4000 + b"\x80", b"x " * 2000 + b"\x80"])
def test_a_header_as_long_as_may_be_costs_no_time_to_speak_of(value: bytes) -> None:
    began = time.thread_time()
    for _ in range(10):
        assert parse_fields(b"\r\nHost: ca.test\r\nA:" + value) is None
    assert time.thread_time() - began < 0.3


class Later:
    """A lane that keeps what it is asked; `/now` is answered at once, `/soon` by a Deferred that has fired."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, Deferred[Reply]]] = []
        self.cancelled: list[Deferred[Reply]] = []

    def get(self, target: bytes, fields: Fields, now: datetime) -> Reply | None:
        return None

    def post(self, target: bytes, body: bytes, fields: Fields, now: datetime) -> Reply | Deferred[Reply] | None:
        if target == b"/elsewhere":
            return None
        if target == b"/now":
            return reply(target)
        answer: Deferred[Reply] = Deferred(self.cancelled.append)
        if target == b"/soon":
            answer.callback(reply(target))
        else:
            self.asked.append((target, answer))
        return answer

    def answer(self) -> None:
        """The oldest question."""
        target, answer = self.asked.pop(0)
        answer.callback(reply(target))


def reply(target: bytes) -> Reply:
    return Reply(b"Content-Length: %d\r\n" % len(target), target, b"201 Created")


class Line(Wire):
    """A connection to a site with such a lane, of an edge that otherwise has nothing."""

    def __init__(self) -> None:
        self.lane = Later()
        reactor = Clock()
        reactor.advance(1000)
        edge = Edge("later", new_app().resource(), lambda _: True, plain_http=True, lane=self.lane)
        limits = Limits(idle_seconds=60, answer_seconds=600)
        clock = FixedClock(datetime(2031, 1, 1, tzinfo=UTC))
        super().__init__(build_site([edge], reactor=reactor, limits=limits, clock=clock), reactor)

    def targets(self, data: bytes) -> list[bytes]:
        """What the answers say they are to."""
        return [part.split(b"\r\n\r\n")[1] for part in data.split(b"HTTP/1.1 201 Created")[1:]]


def ask(target: str, headers: bytes = b"") -> bytes:
    return REQUEST % (target.encode(), headers)


def test_an_answer_comes_when_it_is_there() -> None:
    line = Line()
    assert line.send(ask("a")) == b""
    line.lane.answer()
    answer = line.received()
    assert answer.startswith(b"HTTP/1.1 201 Created\r\nDate: ")
    assert line.targets(answer) == [b"/a"]
    assert not line.closed


@pytest.mark.parametrize("apart", [True, False])
def test_pipelined_requests_are_asked_and_answered_in_turn(apart: bool) -> None:
    line = Line()
    requests = [ask(target) for target in ("now", "a", "now", "soon", "b", "soon")]
    got = b"".join(map(line.send, requests)) if apart else line.send(b"".join(requests))
    assert line.targets(got) == [b"/now"]
    assert [target for target, _ in line.lane.asked] == [b"/a"]
    line.lane.answer()
    assert line.targets(line.received()) == [b"/a", b"/now", b"/soon"]
    line.lane.answer()
    assert line.targets(line.received()) == [b"/b", b"/soon"]


def test_the_ordinary_way_waits_for_the_lane_too() -> None:
    line = Line()
    assert line.send(ask("a") + ELSEWHERE) == b""
    line.lane.answer()
    first, second = line.received().split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"201")
    assert second.startswith(b"404")


def test_who_wants_the_connection_closed_gets_the_answer_first() -> None:
    line = Line()
    assert line.send(ask("a", b"Connection: close\r\n") + ask("now")) == b""
    assert not line.closed
    line.lane.answer()
    assert b"Connection: close\r\n" in (answer := line.received())
    assert line.targets(answer) == [b"/a"]
    assert line.closed


def test_a_client_that_hangs_up_cancels_what_it_asked() -> None:
    line = Line()
    line.send(ask("a"))
    line.channel.connectionLost(Failure(ConnectionDone()))
    assert line.lane.cancelled == [line.lane.asked[0][1]]
    assert line.received() == b""


def test_a_failure_ends_the_connection_and_is_logged() -> None:
    line = Line()
    line.send(ask("a"))
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    try:
        line.lane.asked[0][1].errback(ValueError("on purpose"))
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert line.transport.disconnected
    assert [str(event["log_failure"].value) for event in events if "log_failure" in event] == ["on purpose"]


def test_no_more_than_a_little_is_read_while_an_answer_is_coming() -> None:
    line = Line()
    line.send(ask("a"))
    sent = 0
    while line.transport.producerState == "producing":
        line.send(ask("now") * 10)
        sent += 10
        assert sent < 1000
    line.lane.answer()
    assert line.targets(line.received()) == [b"/a", *[b"/now"] * sent]
    assert line.transport.producerState == "producing"


def test_our_own_time_is_not_the_client_s() -> None:
    line = Line()
    line.send(ask("a"))
    for _ in range(10):
        line.reactor.advance(59)
    assert not line.closed
    line.lane.answer()
    assert line.targets(line.received()) == [b"/a"]
    line.reactor.advance(59)
    assert not line.closed
    line.reactor.advance(62)
    assert line.closed


@pytest.mark.parametrize("target", ["now", "soon"])
def test_a_slow_reader_has_the_time_of_an_answer_not_of_an_idle_connection(target: str) -> None:
    line = Line()
    line.transport.write = full(line)
    line.send(ask(target))
    for _ in range(9):
        line.reactor.advance(60)
        assert not line.closed
    for _ in range(3):
        line.reactor.advance(60)
    assert line.closed


def full(line: Line) -> object:
    """A transport's `write` that has no room for more afterwards."""

    def write(data: bytes) -> None:
        StringTransport.write(line.transport, data)
        line.channel.pauseProducing()

    return write
