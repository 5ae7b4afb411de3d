"""OCSP in the express lane: what is at hand, asked by POST or GET as nearly all clients ask."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from opencertd.asn1 import ocsp
from opencertd.errors import Refusal
from opencertd.ocsp.caching import shared, unshared
from opencertd.ocsp.messages import REQUEST_TYPE, request_of_uri
from opencertd.ocsp.server import OcspServer
from opencertd.web.express import Fields, Reply

_POST_TARGET = re.compile(rb"/ca(?:/[A-Za-z0-9_.-]+)?/ocsp/?")
_GET_TARGET = re.compile(rb"/ca(/(?!ocsp/)[A-Za-z0-9_.-]+)?/ocsp/[^?]+")
_REQUEST_TYPES = frozenset({None, REQUEST_TYPE.encode()})


MOST_AT_A_TIME = 2000
"""Replies to GETs that are remembered for the rest of a second: those about certificates that many ask about."""

_SECOND = timedelta(seconds=1)  # max-age changes that often


class _Told(NamedTuple):
    """A reply to a GET without conditions, and the entry that it was made from."""

    cert_id_der: bytes
    entry: bytes
    reply: Reply


class OcspLane:
    """Answers that `server` has at hand."""

    def __init__(self, server: OcspServer) -> None:
        self._at_hand = server.at_hand
        self._entry = server.prepared_entry
        self._told: dict[bytes, _Told] = {}
        self._since = self._until = datetime.min.replace(tzinfo=UTC)

    def post(self, target: bytes, body: bytes, fields: Fields, now: datetime) -> Reply | None:
        """The answer to the request in `body`."""
        if (target != b"/ca/ocsp" and not _POST_TARGET.fullmatch(target)) or fields.content_type not in _REQUEST_TYPES:
            return None
        answer = self._at_hand(body, now)
        return None if answer is None else unshared(answer.body)

    def get(self, target: bytes, fields: Fields, now: datetime) -> Reply | None:
        """The answer to the request in a path, as caches may keep it."""
        told = self._told.get(target)
        if (
            told is not None
            and self._since <= now < self._until
            and self._entry(told.cert_id_der) is told.entry
            and fields.if_none_match is None
            and fields.if_modified_since is None
        ):
            return told.reply
        match = _GET_TARGET.fullmatch(target)
        if match is None:
            return None
        try:
            request_der = request_of_uri(target, segments=2 if match[1] is None else 3)
        except Refusal:
            return None
        answer = self._at_hand(request_der, now)
        if answer is None:
            return None
        reply = shared(answer, fields.if_none_match, fields.if_modified_since, now)
        if fields.if_none_match is None and fields.if_modified_since is None:
            self._remember(target, request_der, reply, now)
        return reply

    def _remember(self, target: bytes, request_der: bytes, reply: Reply, now: datetime) -> None:
        """Until the second is over: an answer is given no more than that much longer than half its time."""
        if not self._since <= now < self._until:
            self._told.clear()
            self._since = now.replace(microsecond=0)
            self._until = self._since + _SECOND
        cert_id_der = ocsp.simple_cert_id(request_der)
        entry = None if cert_id_der is None else self._entry(cert_id_der)
        if cert_id_der is not None and entry is not None and len(self._told) < MOST_AT_A_TIME:
            self._told[target] = _Told(cert_id_der, entry, reply)
