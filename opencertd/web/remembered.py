"""What was answered a moment ago is answered again: files that many fetch, as CRLs and CA certificates.

The ordinary way finds out what the answer is, as often as it has to so that nobody is told anything older than
`LONGEST`; what it said is repeated meanwhile, header fields and all, in the express lane. There is nothing to tell this
lane of: a CRL that another worker publishes shows within that time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from twisted.web.iweb import IRequest

from opencertd.clock import Clock
from opencertd.web.conditional import answer_conditionally, is_not_modified, modified_after
from opencertd.web.express import Fields, Reply
from opencertd.web.headers import SECURITY_HEADERS
from opencertd.web.refusals import header

FRESH = timedelta(seconds=0.3)
"""From this age on somebody is let through to the ordinary way, who brings a new answer."""

LONGEST = timedelta(seconds=0.6)
"""From this age on everybody is."""

MOST = 64
"""Answers remembered: what may be asked for is known, but strangers may write it in many ways."""

MOST_OCTETS = 1 << 28
"""Of their bodies. Most are in memory anyway."""

_OTHERS = frozenset({b"date", b"connection", b"content-length", *(name.lower() for name, _ in SECURITY_HEADERS)})


@dataclass
class _Kept:
    """An answer that was right at `since`. `head`: its own header lines but for Content-Length."""

    since: datetime
    head: bytes
    body: bytes
    etag: str
    modified: datetime | None
    somebody_asks: bool = False


class Remembered:
    """The lane of one edge, and what its resource answers by."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[tuple[bytes, str | None], _Kept] = {}

    def get(self, target: bytes, fields: Fields, now: datetime) -> Reply | None:
        """What was said of this target a moment ago to others who accept the same."""
        kept = self._kept.get((target, fields.accept))
        if kept is None:
            return None
        age = now - kept.since
        if not timedelta(0) <= age < LONGEST:
            return None
        if age >= FRESH and not kept.somebody_asks:
            kept.somebody_asks = True
            return None
        by_date = None if kept.modified is None else fields.if_modified_since
        if (fields.if_none_match is not None or by_date is not None) and is_not_modified(
            fields.if_none_match, by_date, kept.etag, kept.modified or now
        ):
            return Reply(kept.head, b"", b"304 Not Modified")
        return Reply(b"%sContent-Length: %d\r\n" % (kept.head, len(kept.body)), kept.body)

    def post(self, target: bytes, body: bytes, fields: Fields, now: datetime) -> Reply | None:
        """Nothing."""

    def answer(
        self, request: IRequest, body: bytes, *, etag: str, changed_at: datetime | None, since: datetime
    ) -> bytes:
        """As `answer_conditionally`, and remembered. `since`: when it was asked what the answer is."""
        now = self._clock.now()
        answered = answer_conditionally(request, body, etag=etag, changed_at=changed_at, now=now)
        modified = None if changed_at is None else modified_after(changed_at)
        accepts = request.requestHeaders.getRawHeaders(b"Accept") or ()
        if len(accepts) <= 1 and (modified is None or modified <= now):
            self._forget_the_old(now, len(body))
            if len(self._kept) < MOST:
                kept = _Kept(since, _own_head(request), body, etag, modified)
                self._kept[cast(Any, request).uri, header(request, "Accept")] = kept
        return answered

    def _forget_the_old(self, now: datetime, more: int) -> None:
        """And all, when they are too large together with `more` octets: of each object, of which several may tell."""
        self._kept = {key: kept for key, kept in self._kept.items() if timedelta(0) <= now - kept.since < LONGEST}
        if more + sum({id(kept.body): len(kept.body) for kept in self._kept.values()}.values()) > MOST_OCTETS:
            self._kept.clear()


def _own_head(request: IRequest) -> bytes:
    lines = [
        b"%s: %s\r\n" % (name, value)
        for name, values in request.responseHeaders.getAllRawHeaders()
        for value in values
        if name.lower() not in _OTHERS
    ]
    return b"".join(lines)
