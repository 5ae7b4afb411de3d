"""OCSP in the express lane: what is at hand, asked by POST or GET as nearly all clients ask."""

from __future__ import annotations

import re
from datetime import datetime

from opencertd.errors import Refusal
from opencertd.ocsp.caching import shared, unshared
from opencertd.ocsp.messages import REQUEST_TYPE, request_of_uri
from opencertd.ocsp.server import OcspServer
from opencertd.web.express import Fields, Reply

_POST_TARGET = re.compile(rb"/ca(?:/[A-Za-z0-9_.-]+)?/ocsp/?")
_GET_TARGET = re.compile(rb"/ca(/(?!ocsp/)[A-Za-z0-9_.-]+)?/ocsp/[^?]+")
_REQUEST_TYPES = frozenset({None, REQUEST_TYPE.encode()})


class OcspLane:
    """Answers that `server` has at hand."""

    def __init__(self, server: OcspServer) -> None:
        self._at_hand = server.at_hand

    def post(self, target: bytes, body: bytes, fields: Fields, now: datetime) -> Reply | None:
        """The answer to the request in `body`."""
        if (target != b"/ca/ocsp" and not _POST_TARGET.fullmatch(target)) or fields.content_type not in _REQUEST_TYPES:
            return None
        answer = self._at_hand(body, now)
        return None if answer is None else unshared(answer.body)

    def get(self, target: bytes, fields: Fields, now: datetime) -> Reply | None:
        """The answer to the request in a path, as caches may keep it."""
        match = _GET_TARGET.fullmatch(target)
        if match is None:
            return None
        try:
            request_der = request_of_uri(target, segments=2 if match[1] is None else 3)
        except Refusal:
            return None
        answer = self._at_hand(request_der, now)
        return None if answer is None else shared(answer, fields.if_none_match, fields.if_modified_since, now)
