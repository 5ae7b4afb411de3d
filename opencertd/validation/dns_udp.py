"""A question to DNS by one datagram, asked by the reactor: all that nearly every lookup takes.

A lost datagram, a truncated answer, a server in trouble: what needs more than this is left to the threads that can
do everything (`resolver.py`). What they would say of a plain answer is said of it here, by the same code.
"""

from __future__ import annotations

import ipaddress
from typing import Any, cast

import dns.exception
import dns.flags
import dns.message
import dns.rcode
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol

PATIENCE = 1.0
"""Seconds until the threads ask again."""

_PLAIN = frozenset({dns.rcode.NOERROR, dns.rcode.NXDOMAIN})


class Question(DatagramProtocol):
    """One question, from a port that the system chose for it, to a server's address; the answer of nobody else counts.

    `answer`: the server's, or None when it is not a plain one or does not come. Cancelling it ends the question.
    `reactor` provides `IReactorUDP` and `IReactorTime`.
    """

    noisy = False

    def __init__(self, reactor: Any, query: dns.message.Message, host: str, port: int, patience: float) -> None:
        self.answer: Deferred[dns.message.Message | None] = Deferred(lambda _: self._close())
        self._query = query
        self._server = host, port
        self._timer = reactor.callLater(patience, self.end, None)

    def startProtocol(self) -> None:  # noqa: N802  (Twisted's name)
        """Ask."""
        transport = cast(Any, self.transport)
        try:
            transport.connect(*self._server)
            transport.write(self._query.to_wire())
        except OSError:
            self.end(None)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:  # noqa: N802  (Twisted's name)
        """End with the answer. What answers another question may be forged, and is not listened to."""
        try:
            answer = dns.message.from_wire(datagram)
        except (dns.exception.DNSException, ValueError):
            self.end(None)
            return
        if self._query.is_response(answer):
            plain = answer.rcode() in _PLAIN and not answer.flags & dns.flags.TC
            self.end(answer if plain else None)

    def connectionRefused(self) -> None:  # noqa: N802  (Twisted's name)
        """Nobody listens there."""
        self.end(None)

    def end(self, answer: dns.message.Message | None) -> None:
        """Answer, once, and ask no more."""
        self._close()
        if not self.answer.called:
            self.answer.callback(answer)

    def _close(self) -> None:
        if self._timer.active():
            self._timer.cancel()
        if self.transport is not None:
            cast(Any, self.transport).stopListening()


def ask(
    reactor: Any, query: dns.message.Message, host: str, port: int, *, patience: float, source: str | None
) -> Deferred[dns.message.Message | None]:
    """The plain answer of the server at an address, if it gives one in time. `source`: the own address to ask from."""
    question = Question(reactor, query, host, port, patience)
    everywhere = "::" if ipaddress.ip_address(host).version == 6 else ""
    try:
        reactor.listenUDP(0, question, interface=everywhere if source is None else source)
    except (CannotListenError, OSError):
        question.end(None)
    return question.answer
