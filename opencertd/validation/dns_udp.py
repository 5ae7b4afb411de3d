"""A question to DNS by one datagram, asked by the reactor: all that nearly every lookup takes.

A lost datagram, a truncated answer, a server in trouble: what needs more than this is left to the threads that can
do everything (`resolver.py`). What they would say of a plain answer is said of it here, by the same code.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.rcode
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

PATIENCE = 1.0
"""Seconds until the threads ask again."""

_LARGEST = 65535
_PLAIN = frozenset({dns.rcode.NOERROR, dns.rcode.NXDOMAIN})


@implementer(IReadDescriptor)
class Question:
    """One question, from a port that the system chose for it, to a server's address; the answer of nobody else counts.

    `answer`: the server's, or None when it is not a plain one or does not come. Cancelling it ends the question.
    """

    def __init__(self, reactor: Any, query: dns.message.Message) -> None:
        self.answer: Deferred[dns.message.Message | None] = Deferred(lambda _: self._close())
        self._reactor = reactor
        self._query = query
        self._socket: socket.socket | None = None
        self._timer: Any = None

    def send(self, host: str, port: int, patience: float, source: str | None) -> None:
        """Ask the server; wait so many seconds. `source`: the own address to ask from."""
        family = socket.AF_INET if ipaddress.ip_address(host).version == 4 else socket.AF_INET6
        self._socket = made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._timer = self._reactor.callLater(patience, self._end, None)
        try:
            if source is not None:
                made.bind((source, 0))
            made.connect((host, port))  # from now on nobody else's datagrams arrive
            made.send(self._query.to_wire())
        except OSError:
            self._end(None)
        else:
            self._reactor.addReader(self)

    def fileno(self) -> int:
        return -1 if self._socket is None else self._socket.fileno()

    def doRead(self) -> None:
        """End with the answer. What answers another question may be forged, and is not listened to."""
        try:
            answer = dns.message.from_wire(self._socket.recv(_LARGEST) if self._socket else b"")
        except BlockingIOError:
            return
        except (OSError, dns.exception.DNSException, ValueError):  # nobody listens there, or says what can be read
            self._end(None)
            return
        if self._query.is_response(answer):
            plain = answer.rcode() in _PLAIN and not answer.flags & dns.flags.TC
            self._end(answer if plain else None)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends."""
        self._end(None)

    def logPrefix(self) -> str:
        return "dns"

    def _end(self, answer: dns.message.Message | None) -> None:
        self._close()
        if not self.answer.called:
            self.answer.callback(answer)

    def _close(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._socket is not None:
            self._reactor.removeReader(self)
            self._socket.close()
            self._socket = None


def ask(
    reactor: Any, query: dns.message.Message, host: str, port: int, *, patience: float, source: str | None
) -> Deferred[dns.message.Message | None]:
    """The plain answer of the server at an address, if it gives one in time. `source`: the own address to ask from.

    `reactor` provides `IReactorFDSet` and `IReactorTime`.
    """
    question = Question(reactor, query)
    question.send(host, port, patience, source)
    return question.answer
