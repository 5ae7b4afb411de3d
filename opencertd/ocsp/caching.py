"""How an answer stands in HTTP: for whoever asked, or for caches until nextUpdate (RFC 9919 §7.2). Pure."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from opencertd.ocsp.messages import RESPONSE_TYPE, Freshness, OcspAnswer
from opencertd.web.conditional import is_not_modified, modified_after
from opencertd.web.express import Reply
from opencertd.web.headers import http_date

_TYPE = b"Content-Type: %s\r\n" % RESPONSE_TYPE.encode("ascii")
_date = lru_cache(maxsize=4096)(http_date)
"""Answers of the same second share their dates."""


def unshared(body: bytes) -> Reply:
    """An answer for whoever asked: to a POST or with a nonce, and what may be otherwise in the next second."""
    return Reply(_unshared_head(len(body)), body)


@lru_cache(maxsize=1024)
def _unshared_head(size: int) -> bytes:
    return b"%sCache-Control: no-store\r\nContent-Length: %d\r\n" % (_TYPE, size)


def shared(answer: OcspAnswer, if_none_match: str | None, if_modified_since: str | None, now: datetime) -> Reply:
    """An answer to a GET: caches may keep it while it is fresh, and need not be told again what they have."""
    if answer.freshness is None:
        return unshared(answer.body)
    etag = answer.etag
    start, dates, modified = _freshness_head(answer.freshness, now.replace(microsecond=0), now.microsecond > 0)
    head = b"%sETag: %s\r\n%s" % (start, etag.encode("ascii"), dates)
    if (if_none_match is not None or if_modified_since is not None) and is_not_modified(
        if_none_match, if_modified_since, etag, modified
    ):
        return Reply(head, b"", b"304 Not Modified")
    return Reply(b"%sContent-Length: %d\r\n" % (head, len(answer.body)), answer.body)


@lru_cache(maxsize=8192)
def _freshness_head(freshness: Freshness, now: datetime, begun: bool) -> tuple[bytes, bytes, datetime]:
    """What stands before and after the ETag of answers of one age, all through one second, and when it has begun."""
    seconds = max(0, int((freshness.next_update - now).total_seconds()) - begun)
    caching = b"Cache-Control: max-age=%d, public, no-transform, must-revalidate\r\n" % seconds
    modified = modified_after(freshness.this_update)
    dates = b"Last-Modified: %s\r\n" % _date(modified) if modified <= now else b""
    return b"%s%sExpires: %s\r\n" % (_TYPE, caching, _date(freshness.next_update)), dates, modified
