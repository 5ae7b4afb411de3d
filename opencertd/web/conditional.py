"""Answers that clients keep and ask about again: ETag, Last-Modified and 304 (RFC 9110 §8.8 and §13)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from twisted.web.iweb import IRequest

from opencertd.web.headers import http_date
from opencertd.web.refusals import header


def answer_conditionally(
    request: IRequest, body: bytes, *, etag: str, changed_at: datetime | None, now: datetime
) -> bytes:
    """`body`, or nothing and status 304 when the client has it already. Sets ETag and Last-Modified.

    `etag`: quoted. Last-Modified is the second after `changed_at`, and absent until that second has come: two
    versions made within one second then never share a date, so a client that asks by date alone misses neither.
    Without `changed_at` there is none, and clients ask by tag only.
    """
    last_modified = now if changed_at is None else modified_after(changed_at)
    by_date = None if changed_at is None else header(request, "If-Modified-Since")
    request.responseHeaders.setRawHeaders(b"ETag", [etag.encode("ascii")])
    if changed_at is not None and last_modified <= now:
        request.responseHeaders.setRawHeaders(b"Last-Modified", [http_date(last_modified)])
    if is_not_modified(header(request, "If-None-Match"), by_date, etag, last_modified):
        request.setResponseCode(304)  # type: ignore[no-untyped-call]
        return b""
    request.responseHeaders.setRawHeaders(b"Content-Length", [b"%d" % len(body)])
    return body


def modified_after(changed_at: datetime) -> datetime:
    """What Last-Modified says of a version made at `changed_at`: the second after."""
    return changed_at.replace(microsecond=0) + timedelta(seconds=1)


def is_not_modified(if_none_match: str | None, if_modified_since: str | None, etag: str, modified: datetime) -> bool:
    """Whether a GET's preconditions ask for 304. If-None-Match, when present, decides alone (RFC 9110 §13.2.2)."""
    if if_none_match is not None:
        offered = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
        return "*" in offered or etag in offered
    if if_modified_since is None:
        return False
    try:
        since = parsedate_to_datetime(if_modified_since)
    except ValueError:
        return False
    return modified <= (since if since.tzinfo else since.replace(tzinfo=UTC))
