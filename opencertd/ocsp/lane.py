"""OCSP in the express lane: what was prepared, asked by POST or GET as nearly all clients ask."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from opencertd.asn1 import ocsp
from opencertd.errors import Refusal
from opencertd.ocsp.messages import REQUEST_TYPE, RESPONSE_TYPE, Freshness, OcspAnswer, request_of_uri
from opencertd.ocsp.server import OcspServer
from opencertd.web.conditional import is_not_modified, modified_after
from opencertd.web.express import Fields, Reply
from opencertd.web.headers import http_date

MOST_TARGETS = 100_000
"""Request targets of GETs whose CertID is remembered: about 400 octets each. Decoding one costs more than answering."""

_SECOND = timedelta(seconds=1)  # max-age changes that often
_POST_TARGET = re.compile(rb"/ca(?:/[A-Za-z0-9_.-]+)?/ocsp/?")
_GET_TARGET = re.compile(rb"/ca(/(?!ocsp/)[A-Za-z0-9_.-]+)?/ocsp/[^?]+")
_REQUEST_TYPES = frozenset({None, REQUEST_TYPE.encode()})


class OcspLane:
    """Answers that `server` has prepared."""

    def __init__(self, server: OcspServer) -> None:
        self._prepared = server.prepared_for
        self._cert_ids: dict[bytes, bytes] = {}
        self._of_this_second: dict[bytes, tuple[OcspAnswer, Reply]] = {}
        self._since = self._until = datetime.min.replace(tzinfo=UTC)

    def post(self, target: bytes, body: bytes, fields: Fields, now: datetime) -> Reply | None:
        """The prepared answer to the request in `body`."""
        if (target != b"/ca/ocsp" and not _POST_TARGET.fullmatch(target)) or fields.content_type not in _REQUEST_TYPES:
            return None
        cert_id_der = ocsp.simple_cert_id(body)
        answer = None if cert_id_der is None else self._prepared(cert_id_der, now)
        return None if answer is None else Reply(answer.post_head, answer.body)

    def get(self, target: bytes, fields: Fields, now: datetime) -> Reply | None:
        """The prepared answer to the request in a path, as caches may keep it (RFC 9919 §7.2)."""
        cert_id_der = self._cert_ids.get(target) or self._decode(target, now)
        answer = None if cert_id_der is None else self._prepared(cert_id_der, now)
        if answer is None or answer.freshness is None:
            return None
        if fields.if_none_match is not None or fields.if_modified_since is not None:
            return _shared(answer, answer.freshness, fields, now)
        if not self._since <= now < self._until:
            self._of_this_second.clear()
            self._since = now.replace(microsecond=0)
            self._until = self._since + _SECOND
        made = self._of_this_second.get(target)
        if made is None or made[0] is not answer:
            made = self._of_this_second[target] = (answer, _shared(answer, answer.freshness, fields, now))
        return made[1]

    def _decode(self, target: bytes, now: datetime) -> bytes | None:
        match = _GET_TARGET.fullmatch(target)
        if match is None:
            return None
        try:
            cert_id_der = ocsp.simple_cert_id(request_of_uri(target, segments=2 if match[1] is None else 3))
        except Refusal:
            return None
        if cert_id_der is not None and self._prepared(cert_id_der, now) is not None:
            if len(self._cert_ids) >= MOST_TARGETS:
                self._cert_ids.clear()
            self._cert_ids[target] = cert_id_der
        return cert_id_der


def _shared(answer: OcspAnswer, freshness: Freshness, fields: Fields, now: datetime) -> Reply:
    seconds = max(0, int((freshness.next_update - now).total_seconds()))
    modified = modified_after(freshness.this_update)
    head = _SHARED % (seconds, _date(freshness.next_update), freshness.etag.encode("ascii"))
    if modified <= now:
        head += b"Last-Modified: %s\r\n" % _date(modified)
    match, since = _text(fields.if_none_match), _text(fields.if_modified_since)
    if (match is not None or since is not None) and is_not_modified(match, since, freshness.etag, modified):
        return Reply(head, b"", b"304 Not Modified")
    return Reply(b"%sContent-Length: %d\r\n" % (head, len(answer.body)), answer.body)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("ascii")


_SHARED = (
    b"Content-Type: %s\r\n" % RESPONSE_TYPE.encode("ascii")
    + b"Cache-Control: max-age=%d, public, no-transform, must-revalidate\r\nExpires: %s\r\nETag: %s\r\n"
)
_date = lru_cache(maxsize=4096)(http_date)
"""Answers of the same second share their dates."""
