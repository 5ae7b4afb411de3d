"""ACME in the express lane: the same answers as by the ordinary way, whatever is asked and however it arrives."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from opencertd.web.site import build_site
from tests.acme.rig import BASE, Client, Reply, Rig, check_manners
from tests.acme.signing import b64, csr_for, ec_key
from tests.web.wire import Wire

Answer = tuple[bytes, list[tuple[bytes, bytes]], bytes]
REQUEST = (
    b"POST %s HTTP/1.1\r\nHost: backend.internal\r\n"
    b"Content-Type: application/jose+json\r\n%sContent-Length: %d\r\n\r\n%s"
)
_RANDOM = re.compile(rb"(?<=/)[A-Za-z0-9_-]{30}(?=[/\"?>\r]|$)|(?<=\"token\": \")[^\"]+")


class Forgiving:
    """A ledger by which a nonce may be used again, so that one request can be sent both ways."""

    epoch = bytes(16)

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def draw(self) -> int:
        return next(self._numbers)

    def use_up(self, number: int) -> bool:
        return True


def wire(rig: Rig, *, express: bool) -> Wire:
    reactor = Clock()
    reactor.advance(1000)
    return Wire(build_site([rig.edge], reactor=reactor, clock=rig.clock if express else None), reactor)


def took_the_lane(peer: Wire) -> bool:
    return bool(peer.channel._served_at)


def answers(data: bytes) -> list[Answer]:
    """Each answer with everything in it that is the same both ways."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        pairs = [(name.lower(), value) for name, value in (line.split(b": ", 1) for line in lines)]
        length = int(dict(pairs).get(b"content-length", 0))
        kept = sorted((n, _RANDOM.sub(b"*", v)) for n, v in pairs if n not in (b"date", b"replay-nonce"))
        assert len([n for n, _ in pairs if n == b"replay-nonce"]) <= 1
        found.append((status, kept, _RANDOM.sub(b"*", data[:length])))
        data = data[length:]
    return found


def request(url: str, body: bytes, headers: bytes = b"") -> bytes:
    return REQUEST % (url.removeprefix(BASE).encode(), headers, len(body), body)


class WireClient(Client):
    """A client on one connection."""

    def __init__(self, rig: Rig, *, express: bool, key: Any = None) -> None:
        super().__init__(rig, key)
        self.wire = wire(rig, express=express)
        self.heard: list[Answer] = []

    async def send(self, url: str, body: bytes) -> Reply:
        self.wire.channel._served_at = 0.0
        data = self.wire.send(request(url, body))
        if not url.endswith("/new-account"):
            assert took_the_lane(self.wire) == (self.wire.channel.site.express is not None)
        self.heard += answers(data)
        head, _, content = data.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers: dict[str, list[str]] = {}
        for name, value in (line.split(": ", 1) for line in lines):
            headers.setdefault(name.lower(), []).append(value)
        reply = Reply(int(status.split()[1]), headers, content, int(headers.get("content-length", ["0"])[0]))
        check_manners(reply)
        self.nonce = headers["replay-nonce"][0]
        return reply


async def flow(client: WireClient) -> None:
    """From the account to the revoked certificate, with some refusals on the way."""
    await client.register()
    order = await client.order("a.example", "*.b.example")
    assert (await client.finalize(order, b"too early")).problem == "orderNotReady"
    await client.prove(order)
    for url in (order.location, *order.json["authorizations"], "/directory", "/new-nonce", client.kid or ""):
        assert (await client.post(url)).status in {200, 204}
    assert (await client.finalize(order, b"no CSR")).problem == "badCSR"
    done = await client.finalize(order, csr_for(ec_key(), "a.example", "*.b.example"))
    chain = await client.post(done.json["certificate"])
    assert (await client.post(done.json["certificate"] + "?chain=7")).status == 404
    assert (await client.order("not a name")).problem == "malformed"
    der = b64(x509.load_pem_x509_certificates(chain.body)[0].public_bytes(Encoding.DER))
    assert (await client.post("/revoke-cert", {"certificate": der})).status == 200
    assert (await client.post("/revoke-cert", {"certificate": der})).problem == "alreadyRevoked"
    assert (await client.post(client.kid or "", {"status": "deactivated"})).status == 200
    assert (await client.post(order.location)).problem == "unauthorized"


@pytest_twisted.ensureDeferred
async def test_a_whole_flow_is_answered_the_same() -> None:
    rig = Rig()
    express, ordinary = WireClient(rig, express=True), WireClient(rig, express=False)
    await flow(express)
    await flow(ordinary)
    mask = re.compile(rb"-----BEGIN CERTIFICATE-----.*", re.DOTALL)
    assert len(express.heard) == len(ordinary.heard) > 15
    for one, other in zip(express.heard, ordinary.heard, strict=True):
        lengths = [tuple(pair for pair in each[1] if pair[0] != b"content-length") for each in (one, other)]
        assert lengths[0] == lengths[1]
        assert (one[0], mask.sub(b"", one[2])) == (other[0], mask.sub(b"", other[2]))


class Pair:
    """Two connections to one worker, and an account with an order, whose nonces last for ever."""

    def __init__(self) -> None:
        self.rig = Rig(ledger=Forgiving())
        self.client = Client(self.rig)
        made: Deferred[None] = Deferred.fromCoroutine(self._set_up())
        assert made.called
        self.express, self.ordinary = wire(self.rig, express=True), wire(self.rig, express=False)

    async def _set_up(self) -> None:
        await self.client.register()
        order = await self.client.order("a.example")
        self.order = order.location
        (self.authorization,) = order.json["authorizations"]
        self.challenge = (await self.client.post(self.authorization)).json["challenges"][0]["url"]
        self.client.nonce = await self.client.fresh_nonce()

    def signed(self, url: str, payload: Any = None, **header: Any) -> bytes:
        """The body of a request; its nonce serves again."""
        header.setdefault("nonce", self.client.nonce)
        found: list[bytes] = []
        Deferred.fromCoroutine(self.client.signed(url, payload, **header)).addCallback(found.append)
        return found[0]

    def both(self, data: bytes) -> tuple[list[Answer], list[Answer]]:
        return answers(self.express.send(data)), answers(self.ordinary.send(data))


PAIR = Pair()
READ = PAIR.signed(PAIR.order)
READING = request(PAIR.order, READ)
NAMES = {"identifiers": [{"type": "dns", "value": "b.example"}]}
ORDERING = request("/new-order", PAIR.signed(BASE + "/new-order", NAMES))
QUICK = {
    "read": READING,
    "order": ORDERING,
    "order for a profile": request(
        "/acme/default/new-order",
        PAIR.signed(BASE + "/acme/default/new-order", NAMES),
    ),
    "authorization": request(PAIR.authorization, PAIR.signed(PAIR.authorization)),
    "challenge": request(PAIR.challenge, PAIR.signed(PAIR.challenge)),
    "orders": request(PAIR.client.kid + "/orders?cursor=x", PAIR.signed(PAIR.client.kid + "/orders?cursor=x")),
    "another URL": request(PAIR.authorization, READ),
    "a query": request(PAIR.order + "?x=1", READ),
    "no record": request("/order/none", PAIR.signed(BASE + "/order/none")),
    "no record's name": request("/order/a.b", PAIR.signed(BASE + "/order/a.b")),
    "a wrong nonce": request(PAIR.order, PAIR.signed(PAIR.order, nonce="AAAA")),
    "no nonce": request(PAIR.order, PAIR.signed(PAIR.order, nonce=None)),
    "no account": request(PAIR.order, PAIR.signed(PAIR.order, kid=BASE + "/account/none")),
    "a payload too much": request(PAIR.order, PAIR.signed(PAIR.order, {})),
    "another algorithm": request(PAIR.order, PAIR.signed(PAIR.order, alg="none")),
    "a wrong signature": request(PAIR.order, json.dumps({**json.loads(READ), "signature": b64(bytes(64))}).encode()),
    "no JSON": request(PAIR.order, b"hello"),
    "nothing": request(PAIR.order, b""),
    "as large as may be": request(PAIR.order, b" " * 65536),
}
SLOW = {
    "a new account": request("/new-account", PAIR.signed(BASE + "/new-account", {}, by_key=True)),
    "from a page": request(PAIR.order, READ, b"Origin: https://page.example\r\n"),
    "another type": READING.replace(b"jose+json", b"json"),
    "the type spelled otherwise": READING.replace(b"jose+json", b"JOSE+JSON; charset=utf-8"),
    "no type": READING.replace(b"Content-Type: application/jose+json\r\n", b""),
    "another path": request("/orders", READ),
    "a longer path": request(PAIR.order + "/x", READ),
    "a slash more": request(PAIR.order + "/", READ),
    "a slash before": request("/" + PAIR.order.removeprefix(BASE), READ),
    "an escaped path": request(PAIR.order.replace("/order", "/%6frder"), READ),
    "PUT": READING.replace(b"POST", b"PUT"),
    "GET": READING.replace(b"POST", b"GET"),
    "an expectation": request(PAIR.order, READ, b"Expect: nothing\r\n"),
    "absolute form": READING.replace(b"POST /", b"POST http://backend.internal/"),
    "chunked": READING.replace(b"Content-Length: %d" % len(READ), b"Transfer-Encoding: chunked").replace(
        b"\r\n\r\n" + READ, b"\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(READ), READ)
    ),
}
ENDING = {
    "close": request(PAIR.order, READ, b"Connection: close\r\n"),
    "too large": request(PAIR.order, b" " * 65537),
    "HTTP/1.0": READING.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "two lengths": request(PAIR.order, READ, b"Content-Length: 3\r\n"),
    "a space in the path": READING.replace(b"/order/", b"/order /"),
}


@pytest.mark.parametrize("name", [*QUICK, *SLOW, *ENDING])
def test_each_request_has_the_ordinary_answer(name: str) -> None:
    express, ordinary = wire(PAIR.rig, express=True), wire(PAIR.rig, express=False)
    data = (QUICK | SLOW | ENDING)[name]
    got, expected = answers(express.send(data)), answers(ordinary.send(data))
    assert got == expected
    assert len(got) == 1
    assert express.closed == ordinary.closed
    assert took_the_lane(express) == (name in QUICK or name == "close")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from([*QUICK.values(), *SLOW.values()]), max_size=5),
    st.sampled_from([b"", *ENDING.values()]),
    st.lists(st.integers(0, 6000), max_size=8),
)
def test_pipelined_and_split_anywhere_they_are_answered_as_if_whole(
    requests: list[bytes], ending: bytes, cuts: list[int]
) -> None:
    data = b"".join(requests) + ending
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    express, ordinary = wire(PAIR.rig, express=True), wire(PAIR.rig, express=False)
    got = b"".join(express.send(data[start:end]) for start, end in itertools.pairwise(edges))
    assert answers(got) == answers(ordinary.send(data))
    assert express.closed == ordinary.closed


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([READING, ORDERING]), st.integers(0, 10**6), st.binary(max_size=3), st.integers(0, 3))
def test_whatever_is_wrong_with_a_request_is_wrong_both_ways(data: bytes, at: int, by: bytes, gone: int) -> None:
    at %= len(data)
    bent = data[:at] + by + data[at + gone :]
    express, ordinary = wire(PAIR.rig, express=True), wire(PAIR.rig, express=False)
    assert answers(express.send(bent)) == answers(ordinary.send(bent))
    assert express.closed == ordinary.closed


def test_what_is_no_refusal_says_nothing_more_than_internal_and_is_logged() -> None:
    pair = Pair()
    events: list[LogEvent] = []

    def begin(*_: object) -> None:
        raise ValueError("on purpose")

    pair.rig.store.begin = begin  # type: ignore[assignment]
    globalLogPublisher.addObserver(events.append)
    try:
        got, expected = pair.both(request(pair.order, pair.signed(pair.order)))
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert got == expected
    assert got[0][0] == b"HTTP/1.1 500 Internal Server Error"
    assert b"on purpose" not in got[0][2]
    assert [str(event["log_failure"].value) for event in events if "log_failure" in event] == ["on purpose"] * 2


def test_a_client_that_hangs_up_cancels_reading_and_nothing_is_logged() -> None:
    pair = Pair()
    waiting: Deferred[Any] = Deferred()
    pair.rig.store.begin = lambda *_: waiting  # type: ignore[assignment]
    seen: list[Any] = []
    waiting.addErrback(lambda failure: seen.append(failure.type) or failure)
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    try:
        assert pair.express.send(request(pair.order, pair.signed(pair.order))) == b""
        pair.express.channel.connectionLost(Failure(ConnectionDone()))
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert seen == [CancelledError]
    assert [event for event in events if "log_failure" in event] == []
