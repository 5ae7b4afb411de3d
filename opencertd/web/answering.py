"""What goes out on a connection: answers of the express lane, now or later, and large ones as the client reads them."""

# mypy: disable-error-code="no-untyped-call"
# (Twisted's HTTPChannel, which this file extends, is untyped.)

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel

from opencertd.web.express import LARGE, Express
from opencertd.web.tls import PromptTls, send_at_once

if TYPE_CHECKING:
    from opencertd.web.site import EdgeSite


class AnsweringChannel(HTTPChannel):
    """A channel that an express lane may answer on. One answer is under way at a time; what comes meanwhile waits."""

    site: EdgeSite
    transport: Any
    _log = Logger()
    _served_at = 0.0
    _drain_left = 0.0
    _backlog = b""
    _coming: Deferred[bytes] | None = None
    _rest: memoryview | None = None
    _then: Callable[[], None] | None = None

    def by_express(self, data: bytes, express: Express) -> bytes:
        """Answer what the express lane can; the rest of `data`, which begins a request, or nothing."""
        if self._coming is not None or self._rest is not None or self._waitingForTransport:
            self._backlog += data  # the client does not read: TLS may hand over a little more all the same
            if len(self._backlog) > self._optimisticEagerReadSize:
                self._networkProducer.pauseProducing()
            return b""
        if self._dataBuffer or not self.persistent:
            return data
        while data:
            served = express.serve(data)
            if not served.used:
                return data
            data = data[served.used :]
            if served.answers:
                self._answer(served.answers, served.body, closes=served.closes and served.coming is None)
            if served.coming is not None:
                self._await(served.coming, closes=served.closes)
            if not self.persistent:
                return b""
            if self._coming is not None or self._rest is not None or self._waitingForTransport:
                self._backlog = data
                return b""
        return b""

    def _answer(self, answers: bytes, body: bytes = b"", *, closes: bool) -> None:
        """Write answers of the express lane, and the body of the last one if it is large."""
        self._served_at = self.site.reactor.seconds()
        self._write_at_once(answers)
        if body:
            self.send_rest(memoryview(body), self._close if closes else None)
        elif closes:
            self._close()
        if self._waitingForTransport:
            self._drain_left = self.site.limits.answer_seconds

    def send_rest(self, rest: memoryview, then: Callable[[], None] | None) -> None:
        """Write a large body piece by piece, as the client takes them: what it has not asked for is not copied."""
        self._rest, self._then = rest, then
        self._drain_left = self.site.limits.answer_seconds
        self._go_on()

    def _go_on(self) -> None:
        while self._rest is not None and not self._waitingForTransport:
            piece, rest = self._rest[:LARGE], self._rest[LARGE:]
            self._rest = rest or None
            self.transport.write(bytes(piece))
        if self._rest is None:
            then, self._then = self._then, None
            if then is not None:
                then()

    def _close(self) -> None:
        """End the connection after what was written."""
        if self.persistent:
            self.persistent = False
            self.loseConnection()

    def _await(self, coming: Deferred[bytes], *, closes: bool) -> None:
        """Write an answer of the express lane when it is there. Until then nothing else is answered."""

        def came(answer: bytes | Failure) -> None:
            if self._coming is not coming:
                return  # the client has gone
            self._coming = None
            if isinstance(answer, Failure):
                self._log.failure("a request was not answered by its lane", answer)
                self.transport.abortConnection()
                return
            self._answer(answer, closes=closes)
            if self._backlog and self.persistent and not self._waitingForTransport:
                self.resumeProducing()

        self._coming = coming
        coming.addBoth(came)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nobody waits any more."""
        coming, self._coming = self._coming, None
        self._rest = self._then = None
        if coming is not None:
            coming.cancel()
        super().connectionLost(reason)

    def _write_at_once(self, data: bytes) -> None:
        if isinstance(self.transport, PromptTls):
            self.transport.write_at_once(data)
        else:
            send_at_once(self.transport, data)

    def resumeProducing(self) -> None:
        """The client has read what there was: go on with what it asked meanwhile."""
        super().resumeProducing()
        self._go_on()
        if self._coming is not None or self._rest is not None or not self.persistent:
            return
        backlog, self._backlog = self._backlog, b""
        if backlog:
            self.dataReceived(backlog)
