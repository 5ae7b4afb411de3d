"""A client may send so much, for so long: everything past that is refused, cut off, and never kept in memory.

twisted.web reads bodies of any size and waits for ever on a sender that drips. `LimitedChannel` answers 413, 431 and
408 instead (RFC 9110 §15.5) and closes; `LimitedRequest` keeps bodies in memory within their edge's limit, and sends
an answer that was written in one piece with its Content-Length.
"""

# mypy: disable-error-code="no-untyped-call"
# (Twisted's HTTPChannel and Request, which this file extends, are untyped.)

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import NO_BODY_CODES, datetimeToString
from twisted.web.server import Request

from opencertd.web.answering import AnsweringChannel
from opencertd.web.express import LARGE
from opencertd.web.headers import SECURITY_HEADERS
from opencertd.web.proxy import Forwarded
from opencertd.web.refusals import INTERNAL, answer_refusal, encode_problem, render_problem

_ABSOLUTE_FORM = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)


@dataclass(frozen=True)
class Limits:
    """What one client may take. Times in seconds, sizes in bytes.

    `request_seconds`: from a request's first byte to its last. `idle_seconds`: a connection with no request under way
    (and a TLS handshake). `answer_seconds`: a finished answer that the client reads slowly. `linger_seconds`: how long
    a refused sender is read and ignored, so that the answer is not lost to a reset connection.
    """

    request_seconds: float = 30.0
    idle_seconds: float = 60.0
    answer_seconds: float = 600.0
    linger_seconds: float = 2.0
    header_size: int = 16384
    headers: int = 100


class LimitedRequest(Request):
    """A request whose body stays within its edge's limit and whose short answers carry their length.

    `forwarded`: what a trusted proxy says of the client's certificate; None when the client has come by itself.
    """

    channel: LimitedChannel
    content: BytesIO
    transport: Any
    defaultContentType = None
    body_limit = 0
    forwarded: Forwarded | None = None
    _held: bytes | None = None
    _sending = False
    _finished_early = False
    _broken = False
    _log = Logger()

    def gotLength(self, length: int | None) -> None:
        """Keep the body in memory: it is limited, and a temporary file would block the reactor."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        if self.content.tell() + len(data) > self.body_limit:
            self.channel.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, too_large(self.body_limit))
        else:
            self.content.write(data)

    def process(self) -> None:
        """Hand the request with its whole path to the site's root."""
        self.site = self.channel.site
        self.client, self.forwarded = self.site.proxies.take(self.requestHeaders, self.client)
        self.setHeader(b"Date", datetimeToString())
        for name, value in SECURITY_HEADERS:
            self.setHeader(name, value)
        self.path = origin_form(self.path)
        self.prepath = []
        self.postpath = [unquote_to_bytes(segment) for segment in self.path[1:].split(b"/")]
        try:
            self.render(self.site.resource)
        except Exception:
            self.processingFailed(Failure())

    def getRequestHostname(self) -> bytes:
        """A constant: nothing here depends on what a client calls us, and Klein fails on names it cannot encode."""
        return b"localhost"

    def write(self, data: bytes) -> None:
        """Hold the first piece back until the next, or the end: then its length is known (and no chunks needed)."""
        known = self.responseHeaders.hasHeader(b"Content-Length")
        if self.startedWriting or known or self.producer is not None or self._held is not None:
            self._release()
            self._put(data)
        else:
            self._held = data

    def _put(self, data: bytes) -> None:
        """Write; what is all of a large body, as the client reads it."""
        length = self.responseHeaders.getRawHeaders(b"Content-Length")
        if len(data) <= LARGE or self.method == b"HEAD" or length != [b"%d" % len(data)]:
            super().write(data)
        else:
            super().write(data[:LARGE])
            self._sending = True
            self.channel.setTimeout(self.channel.site.limits.idle_seconds)
            self.channel.send_rest(memoryview(data)[LARGE:], self._sent)

    def _sent(self) -> None:
        self._sending = False
        if self._finished_early:
            self.finish()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._release()
        super().registerProducer(producer, streaming)

    def finish(self) -> None:
        if self.finished or self._broken:  # Klein finishes once more what `processingFailed` has finished
            return
        if (
            not self.startedWriting
            and self.code not in NO_BODY_CODES
            and not self.responseHeaders.hasHeader(b"Content-Length")
        ):
            self.setHeader(b"Content-Length", b"%d" % len(self._held or b""))
        self._release()
        if self._sending:
            self._finished_early = True
        else:
            super().finish()

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._put(held)

    def break_off(self) -> None:
        """End an answer that cannot be completed: only a broken connection tells the client so."""
        self._broken = True
        self.transport.abortConnection()

    def processingFailed(self, reason: Failure) -> Failure:
        """Answer a plain 500 for what even the error handlers did not catch. Twisted's own shows HTML."""
        self._log.failure("a request was not answered by its resource", reason)
        if self.startedWriting:
            self.break_off()
        else:
            self._held = None
            self.write(answer_refusal(self, INTERNAL, render_problem))
            self.finish()
        return reason


class LimitedChannel(AnsweringChannel):
    """One client's connection: parses requests, keeps the limits, lingers before it closes on a refused sender."""

    _receiving = False
    _refused = False
    _host: Any = None
    _peer: Any = None

    def connectionMade(self) -> None:
        limits = self.site.limits
        self.totalHeadersSize = self.MAX_LENGTH = limits.header_size
        self.maxHeaders = limits.headers
        super().connectionMade()

    def getHost(self) -> Any:
        """This end's address, which every request asks for and the kernel need be asked for once."""
        if self._host is None:
            self._host = super().getHost()
        return self._host

    def getPeer(self) -> Any:
        """The other end's."""
        if self._peer is None:
            self._peer = super().getPeer()
        return self._peer

    def dataReceived(self, data: bytes) -> None:
        if self._refused:
            return
        if self.site.express is not None and not (self._receiving or self._handlingRequest or self._buffer):
            data = self.by_express(data, self.site.express)
            if not data:
                return
        if not self._receiving and not self._handlingRequest:
            self._receiving = True
            self.setTimeout(self.site.limits.request_seconds)
        super().dataReceived(data)

    def resetTimeout(self) -> None:
        """Nothing: a byte now and then buys no time. The timer is set at a request's first byte and its answer."""

    def lineReceived(self, line: bytes) -> None:
        if not self._refused:
            super().lineReceived(line)

    def rawDataReceived(self, data: bytes) -> None:
        if not self._refused:
            super().rawDataReceived(data)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "a line of the request's header is too long")

    def headerReceived(self, line: bytes) -> bool:
        if line[:15].lower() == b"content-length:" and len(line) > 64:  # beyond what int() takes from strangers
            self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large")
            return False
        return bool(super().headerReceived(line))

    def allHeadersReceived(self) -> None:
        """Judge the announced length before a byte of the body (and before `100 Continue`) is exchanged."""
        if self.length != 0:
            limit = self.site.body_limit(self._path)
            self.requests[-1].body_limit = limit
            if self.length is not None and self.length > limit:
                self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, too_large(limit))
                return
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        if not self._refused:
            self._receiving = False
            super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        limits = self.site.limits
        self._savedTimeOut = limits.idle_seconds  # what Twisted saved is the time left to a sender
        self._drain_left = limits.answer_seconds
        if not self.persistent:
            self._abortingCall = self.callLater(limits.answer_seconds, self.forceAbortClient)
        super().requestDone(request)

    def timeoutConnection(self) -> None:
        """The one timer has run out: for a sender, an idle connection, a slow reader or a refused sender."""
        idle = self.site.reactor.seconds() - self._served_at
        if self._coming is not None:
            self.setTimeout(self.site.limits.idle_seconds)  # it is our turn
        elif (
            self._served_at
            and not (self._receiving or self._waitingForTransport)
            and idle < self.site.limits.idle_seconds
        ):
            self.setTimeout(self.site.limits.idle_seconds - idle)  # the express lane sets no timers
        elif self._receiving and not self._refused:
            self.refuse(HTTPStatus.REQUEST_TIMEOUT, "the request took too long to arrive")
        elif self._waitingForTransport and self._drain_left > 0:
            self._drain_left -= self.site.limits.idle_seconds
            self.setTimeout(self.site.limits.idle_seconds)
        else:
            self._abortingCall = self.callLater(self.abortTimeout, self.forceAbortClient)
            self.loseConnection()

    def refuse(self, status: int, detail: str) -> None:
        """Answer for a request that never became one, ignore what still comes, and close after a while."""
        if self._refused:
            return
        self._refused = True
        self.transport.write(encode_answer(status, detail))
        self.setTimeout(self.site.limits.linger_seconds)

    def _respondToBadRequestAndDisconnect(self) -> None:
        if self._receivedHeaderSize > self.totalHeadersSize or self._receivedHeaderCount > self.maxHeaders:
            self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request's header is too large")
        else:
            self.refuse(HTTPStatus.BAD_REQUEST, "this is not an HTTP/1.1 request")


def too_large(limit: int) -> str:
    """The words of a 413."""
    return f"the body is larger than the {limit} bytes accepted here"


def origin_form(target: bytes) -> bytes:
    """The path (and query) of a request target; an absolute URI loses its scheme and host (RFC 9112 §3.2.2)."""
    stripped = _ABSOLUTE_FORM.sub(b"", target, count=1) if not target.startswith(b"/") else target
    return stripped if stripped.startswith(b"/") or stripped == target else b"/" + stripped


def encode_answer(status: int, detail: str) -> bytes:
    """A whole HTTP answer that closes the connection, for when no request object can write one."""
    body = encode_problem(status, detail)
    lines = [
        b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode("ascii")),
        b"Date: " + datetimeToString(),
        b"Content-Type: application/problem+json",
        b"Content-Length: %d" % len(body),
        b"Connection: close",
        *(b"%s: %s" % pair for pair in SECURITY_HEADERS),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
