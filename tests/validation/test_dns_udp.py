"""One datagram answers a plain question, without threads; whatever else comes back is nobody's word."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import pytest_twisted
from twisted.internet.protocol import DatagramProtocol

from opencertd.validation.resolver import DnsResolver, DnsServer, LookupFailed, LookupProblem
from tests.validation.conftest import MakeResolver

Answers = Callable[[dns.message.Message], list[bytes]]


class Zone(DatagramProtocol):
    """A server that sends what `answers` says for a question; None of them for its first `lost` questions."""

    noisy = False

    def __init__(self, answers: Answers, lost: int = 0) -> None:
        self.answers = answers
        self.lost = lost
        self.asked: list[tuple[dns.message.Message, int]] = []

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        query = dns.message.from_wire(datagram)
        self.asked.append((query, addr[1]))
        if len(self.asked) > self.lost:
            for answer in self.answers(query):
                self.transport.write(answer, addr)  # type: ignore[union-attr]


Serve = Callable[..., tuple[Zone, DnsResolver]]


@pytest.fixture
def serve(make_resolver: MakeResolver) -> Iterator[Serve]:
    from twisted.internet import reactor

    ports: list[Any] = []

    def start(answers: Answers, lost: int = 0, interface: str = "127.0.0.1", **more: Any) -> tuple[Zone, DnsResolver]:
        zone = Zone(answers, lost)
        ports.append(reactor.listenUDP(0, zone, interface=interface))  # type: ignore[attr-defined]
        return zone, make_resolver(DnsServer(interface, ports[-1].getHost().port), **more)

    yield start
    for port in ports:
        port.stopListening()


def said(query: dns.message.Message, text: str = "right", **changed: Any) -> bytes:
    """An answer with a TXT record, `changed` in some of `id`, `name` and `rcode`."""
    answer = dns.message.make_response(query)
    asked = query.question[0]
    if "name" in changed:
        answer.question = [dns.rrset.from_text(changed["name"], 1, "IN", "TXT")]
    answer.answer.append(dns.rrset.from_text(asked.name, 1, "IN", "TXT", text))
    answer.id = changed.get("id", answer.id)
    answer.set_rcode(changed.get("rcode", dns.rcode.NOERROR))
    return answer.to_wire()


def used_threads(resolver: DnsResolver) -> bool:
    return bool(resolver._pool.started)


@pytest.mark.parametrize("interface", ["127.0.0.1", "::1"])
@pytest_twisted.ensureDeferred
async def test_a_plain_answer_takes_no_thread(serve: Serve, interface: str) -> None:
    zone, resolver = serve(lambda query: [said(query)], interface=interface)
    assert await resolver.texts("a.test") == (b"right",)
    assert not used_threads(resolver)
    ((query, _),) = zone.asked
    assert query.flags == dns.flags.RD


@pytest_twisted.ensureDeferred
async def test_no_two_questions_have_the_same_port_and_number(serve: Serve) -> None:
    zone, resolver = serve(lambda query: [said(query)])
    for _ in range(30):
        await resolver.texts("a.test")
    assert len({port for _, port in zone.asked}) > 20
    assert len({query.id for query, _ in zone.asked}) > 20


FORGED: dict[str, Callable[[dns.message.Message], bytes]] = {
    "another number": lambda query: said(query, "forged", id=query.id ^ 1),
    "another name": lambda query: said(query, "forged", name="b.test."),
    "a question": lambda query: query.to_wire(),
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
@pytest_twisted.ensureDeferred
async def test_what_answers_another_question_is_not_listened_to(
    serve: Serve, forged: Callable[[dns.message.Message], bytes]
) -> None:
    _, resolver = serve(lambda query: [forged(query), said(query)])
    assert await resolver.texts("a.test") == (b"right",)
    assert not used_threads(resolver)


@pytest_twisted.ensureDeferred
async def test_somebody_else_s_datagram_is_not_an_answer(serve: Serve) -> None:
    from twisted.internet import reactor

    other: Any = reactor.listenUDP(0, Zone(lambda _: []), interface="127.0.0.1")  # type: ignore[attr-defined]

    def answers(query: dns.message.Message) -> list[bytes]:
        other.write(said(query, "forged"), ("127.0.0.1", zone.asked[-1][1]))
        return [said(query)]

    zone, resolver = serve(answers)
    assert await resolver.texts("a.test") == (b"right",)
    await other.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_lost_datagram_is_sent_again_by_a_thread(serve: Serve) -> None:
    zone, resolver = serve(lambda query: [said(query)], lost=1, lifetime=2.0)
    assert await resolver.texts("a.test") == (b"right",)
    assert used_threads(resolver)
    assert len(zone.asked) == 2


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
@pytest_twisted.ensureDeferred
async def test_a_server_in_trouble_is_asked_again_by_a_thread(serve: Serve, rcode: dns.rcode.Rcode) -> None:
    zone, resolver = serve(lambda query: [said(query, rcode=rcode if len(zone.asked) == 1 else dns.rcode.NOERROR)])
    assert await resolver.texts("a.test") == (b"right",)
    assert used_threads(resolver)


@pytest_twisted.ensureDeferred
async def test_rubbish_is_left_to_a_thread(serve: Serve) -> None:
    zone, resolver = serve(lambda query: [b"rubbish" if len(zone.asked) == 1 else said(query)])
    assert await resolver.texts("a.test") == (b"right",)


@pytest_twisted.ensureDeferred
async def test_no_such_name_takes_no_thread(serve: Serve) -> None:
    def answers(query: dns.message.Message) -> list[bytes]:
        answer = dns.message.make_response(query)
        answer.set_rcode(dns.rcode.NXDOMAIN)
        return [answer.to_wire()]

    _, resolver = serve(answers)
    with pytest.raises(LookupFailed, match="NXDOMAIN") as told:
        await resolver.texts("a.test")
    assert told.value.problem is LookupProblem.NO_SUCH_NAME
    assert not used_threads(resolver)


@pytest_twisted.ensureDeferred
async def test_it_asks_from_the_address_that_is_its_own(serve: Serve) -> None:
    _, resolver = serve(lambda query: [said(query)], sources=(ip_address("127.0.0.1"),))
    assert await resolver.texts("a.test") == (b"right",)
    assert not used_threads(resolver)
