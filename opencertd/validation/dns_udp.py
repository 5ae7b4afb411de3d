"""A question to DNS by one datagram, asked by the reactor: all that nearly every lookup takes.

A lost datagram, a truncated answer, a server in trouble: what needs more than this is left to the threads that can
do everything (`resolver.py`). What they would say of a plain answer is said of it here, by the same code.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any, TypeAlias

import dns.exception
import dns.flags
import dns.message
import dns.rcode
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from opencertd.validation.dns_wire import Plain, read_plain

PATIENCE = 1.0
"""Seconds until the threads ask again."""

_LARGEST = 65535
_ENOUGH = frozenset({dns.rcode.NOERROR, dns.rcode.NXDOMAIN})


Answer: TypeAlias = Plain | dns.message.Message | None
"""What the server said, as a message when it was not plain; None when that is not enough, or did not come."""


@implementer(IReadDescriptor)
class Question:
    """One question, from a port that the system chose for it, to a server's address; the answer of nobody else counts.

    Cancelling `answer` ends the question.
    """

    def __init__(self, reactor: Any, question: bytes) -> None:
        self.answer: Deferred[Answer] = Deferred(lambda _: self._close())
        self._reactor = reactor
        self._question = question
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
            made.send(self._question)
        except OSError:
            self._end(None)
        else:
            self._reactor.addReader(self)

    def fileno(self) -> int:
        return -1 if self._socket is None else self._socket.fileno()

    def doRead(self) -> None:
        """End with the answer. What answers another question may be forged, and is not listened to."""
        try:
            datagram = self._socket.recv(_LARGEST) if self._socket else b""
            plain = read_plain(self._question, datagram)
            answer = None if plain is not None else dns.message.from_wire(datagram)
        except BlockingIOError:
            return
        except (OSError, dns.exception.DNSException, ValueError):  # nobody listens there, or says what can be read
            self._end(None)
            return
        if answer is None:
            self._end(plain)
        elif dns.message.from_wire(self._question).is_response(answer):
            enough = answer.rcode() in _ENOUGH and not answer.flags & dns.flags.TC
            self._end(answer if enough else None)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends."""
        self._end(None)

    def logPrefix(self) -> str:
        return "dns"

    def _end(self, answer: Answer) -> None:
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
    reactor: Any, question: bytes, host: str, port: int, *, patience: float, source: str | None
) -> Deferred[Answer]:
    """The answer of the server at an address, if it gives one in time. `source`: the own address to ask from.

    `reactor` provides `IReactorFDSet` and `IReactorTime`.
    """
    asked = Question(reactor, question)
    asked.send(host, port, patience, source)
    return asked.answer
