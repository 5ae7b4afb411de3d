"""The express lane: a request that can be answered from its bytes alone is, before HTTP takes it apart.

Status is what a CA is asked most, with the same few kinds of requests. `Express` recognises them whole at the front of
what a connection received, and a `Lane` answers them from what is at hand, or begins an answer that comes later.
Everything else (another method, a header that matters, a request still arriving, an answer not at hand) is left, byte
for byte, to the ordinary channel, whose answers to the same requests are the same. So nothing here decides what is
right, only how fast it is said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred

from opencertd.clock import Clock
from opencertd.web.headers import SECURITY_HEADERS, http_date

LONGEST_BLOCK = 4096
"""Octets of a header block that is remembered; clients of status send some hundred."""

MOST_BLOCKS = 1024
"""Distinct header blocks remembered. When more come, all are forgotten: strangers choose them."""

OK = b"200 OK"
LARGE = 64 * 1024
"""Octets of a body beyond which it is not copied, but sent as the client reads it."""

MOST_AT_ONCE = 128 * 1024
"""Octets of answers written before it is seen whether the client reads them."""

_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*+([\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?|)[ \t]*+")
"""Spaces are never given back ("*+"): else a line of many costs its length squared, and anybody may send one."""
_LENGTH = re.compile(rb"[0-9]{1,6}")
_MATTERING = frozenset(
    {
        *(b"transfer-encoding", b"te", b"trailer", b"upgrade", b"expect", b"range", b"if-range", b"if-match"),
        *(b"if-unmodified-since", b"http2-settings", b"content-encoding", b"proxy-connection", b"keep-alive"),
    }
)
"""With one of these a request is not for us."""

_ONCE = frozenset(
    (b"host", b"content-length", b"content-type", b"connection", b"accept", b"if-none-match", b"if-modified-since")
)
_ON_ALL = b"".join(b"%s: %s\r\n" % pair for pair in SECURITY_HEADERS)


@dataclass(frozen=True)
class Fields:
    """What a header block says that matters here. `closes`: the client wants the connection closed after the answer.

    Values are as they came, None when absent.
    """

    length: int
    closes: bool
    content_type: bytes | None
    accept: str | None
    if_none_match: str | None
    if_modified_since: str | None
    origin: bytes | None = None


class Lane(Protocol):
    """What an edge answers from bytes alone. Both methods answer a `Reply`, or None: let the ordinary way do it."""

    def get(self, target: bytes, fields: Fields, now: datetime) -> Reply | None:
        """The answer to a GET of this request target."""

    def post(self, target: bytes, body: bytes, fields: Fields, now: datetime) -> Reply | Deferred[Reply] | None:
        """The answer to a POST. One that comes later must never fail; it is cancelled when the client hangs up."""


class Reply(NamedTuple):
    """An answer but for what all answers have: status line, date, security headers, what ends the connection.

    `head`: its own header lines, Content-Length among them, each with its CRLF. `status`: as `200 OK`.
    """

    head: bytes
    body: bytes
    status: bytes = OK


def parse_fields(block: bytes) -> Fields | None:
    """What a header block says: each line after a CRLF, without the empty one. None when it is not for the lane."""
    if len(block) > LONGEST_BLOCK:
        return None
    found: dict[bytes, bytes] = {}
    for line in block.split(b"\r\n")[1:]:
        match = _FIELD.fullmatch(line)
        if match is None:
            return None
        name = match[1].lower()
        if name in _MATTERING or (name in _ONCE and name in found):
            return None
        found[name] = match[2]
    connection = found.get(b"connection", b"keep-alive").lower()
    length = found.get(b"content-length", b"0")
    if b"host" not in found or connection not in {b"keep-alive", b"close"} or not _LENGTH.fullmatch(length):
        return None
    return Fields(
        length=int(length),
        closes=connection == b"close",
        content_type=found.get(b"content-type"),
        accept=_text(found.get(b"accept")),
        if_none_match=_text(found.get(b"if-none-match")),
        if_modified_since=_text(found.get(b"if-modified-since")),
        origin=found.get(b"origin"),
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("ascii")


class Served(NamedTuple):
    """How many octets were used, what goes back for them, and whether the connection then ends.

    `coming`: the last answer, which follows the others when it is there. `body`: of the last answer, when it is large.
    """

    used: int
    answers: bytes
    closes: bool
    coming: Deferred[bytes] | None = None
    body: bytes = b""


class Express:
    """Answers what it can of a connection's bytes, by its lanes, asked in turn."""

    def __init__(self, lanes: Sequence[Lane], clock: Clock) -> None:
        self._clock = clock
        self._gets = tuple(lane.get for lane in lanes)
        self._posts = tuple(lane.post for lane in lanes)
        self._blocks: dict[bytes, Fields | None] = {}
        self._dated = b""
        self._dated_from = self._dated_until = datetime.min.replace(tzinfo=UTC)

    def serve(self, data: bytes) -> Served:
        """Answer requests from the front of `data`, until one is not for us or the answers have grown large."""
        now = self._clock.now()
        used, answers = 0, b""
        while True:
            stop, answer, closes = self._one(data, used, now)
            if isinstance(answer, Deferred):
                return Served(stop, answers, closes, answer)
            if isinstance(answer, Reply):
                head = self._encode(answer._replace(body=b""), closes, now)
                return Served(stop, answers + head, closes, body=answer.body)
            used, answers = stop, answers + answer
            if not answer or closes or used == len(data) or len(answers) >= MOST_AT_ONCE:
                return Served(used, answers, closes)

    def _one(self, data: bytes, start: int, now: datetime) -> tuple[int, bytes | Reply | Deferred[bytes], bool]:
        """Where the request at `start` ends, its answer and whether it is the last; `start` and nothing if not ours.

        A large answer is left as it is.
        """
        line_end = data.find(b"\r\n", start)
        head_end = data.find(b"\r\n\r\n", line_end)
        if line_end < 0 or head_end < 0:
            return start, b"", False
        block = data[line_end:head_end]
        fields = self._blocks.get(block) or self._parse(block)
        if fields is None:
            return start, b"", False
        body_start = head_end + 4
        stop = body_start + fields.length
        whole = stop <= len(data)
        reply = self._reply(data[start:line_end], data[body_start:stop], fields, now) if whole else None
        if reply is None:
            return start, b"", False
        closes = fields.closes
        if isinstance(reply, Deferred):
            return stop, reply.addCallback(lambda made: self._encode(made, closes, self._clock.now())), closes
        if len(reply.body) > LARGE:
            return stop, reply, closes
        return stop, self._encode(reply, closes, now), closes

    def _parse(self, block: bytes) -> Fields | None:
        if block in self._blocks:
            return None
        fields = parse_fields(block)
        if len(self._blocks) >= MOST_BLOCKS:
            self._blocks.clear()
        if len(block) <= LONGEST_BLOCK:
            self._blocks[block] = fields
        return fields

    def _reply(self, line: bytes, body: bytes, fields: Fields, now: datetime) -> Reply | Deferred[Reply] | None:
        if not line.endswith(b" HTTP/1.1"):
            return None
        if line.startswith(b"POST "):
            for post in self._posts:
                if (reply := post(line[5:-9], body, fields, now)) is not None:
                    return reply
        elif line.startswith(b"GET ") and not body:
            for get in self._gets:
                if (reply := get(line[4:-9], fields, now)) is not None:
                    return reply
        elif line.startswith(b"HEAD ") and not body:
            for get in self._gets:
                if (reply := get(line[5:-9], fields, now)) is not None:
                    return reply._replace(body=b"")
        return None

    def _encode(self, reply: Reply, closes: bool, now: datetime) -> bytes:
        if not self._dated_from <= now < self._dated_until:
            self._dated_from = now.replace(microsecond=0)
            self._dated_until = self._dated_from + timedelta(seconds=1)
            self._dated = b"Date: %s\r\n%s" % (http_date(now), _ON_ALL)
        end = b"Connection: close\r\n\r\n" if closes else b"\r\n"
        return b"HTTP/1.1 %s\r\n%s%s%s%s" % (reply.status, self._dated, reply.head, end, reply.body)
