"""ACME's POSTs: each the same conversation, and in the express lane when it is asked as nearly all clients ask.

The lane leaves to the ordinary way whatever is unusual about a request before its body is read. From there on
`converse` answers for both.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.web.http import RESPONSES

from opencertd.acme import urls
from opencertd.acme.answers import JOSE, Answer, header_fields, refused
from opencertd.acme.server import AcmeServer, ByKey
from opencertd.acme.store import About, Noun
from opencertd.acme.urls import is_id
from opencertd.errors import Refusal
from opencertd.web.express import OK, Fields, Reply
from opencertd.web.refusals import INTERNAL
from opencertd.web.shortcut import PostTable
from opencertd.web.site import DEFAULT_BODY_LIMIT

_JOSE = JOSE.encode("ascii")
_TARGET = re.compile(rb"/([!-$&->@-~]*)(?:\?[!-~]*)?")
"""A path with nothing percent-encoded, and a query."""

_STATUS = {code: b"%d %s" % (code, phrase) for code, phrase in RESPONSES.items()} | {200: OK}


@dataclass(frozen=True)
class Post:
    """A path that takes a POST. `noun`: what its `<record>` is, where the store is asked for that at once."""

    path: str
    signed: Callable[[bytes, str, About | None], Awaitable[Any]]
    act: Callable[[Any, str], Awaitable[Answer]]
    noun: Noun | None = None


async def converse(post: Post, body: bytes, target: str, record: str, address: str | None) -> Answer:
    """The answer to a signed body. `target`: path and query; `record`: of the path; `address`: of the client."""
    about = None if post.noun is None or not is_id(record) else About(post.noun, record)
    asked = await post.signed(body, target, about)
    if isinstance(asked, ByKey):
        asked = replace(asked, address=address)
    return await post.act(asked, record)


class AcmeLane:
    """A `Lane` for `posts`. `index`: the link to the directory."""

    _log = Logger()

    def __init__(self, posts: Iterable[Post], server: AcmeServer, index: bytes) -> None:
        # Who makes an account is known by the address of the connection, too.
        self._table = PostTable({post.path: post for post in posts if post.path != urls.NEW_ACCOUNT})
        self._server = server
        self._index = index

    def get(self, target: bytes, fields: Fields, now: datetime) -> Reply | None:
        """Nothing: clients GET no more than the directory, once."""
        return None

    def post(self, target: bytes, body: bytes, fields: Fields, now: datetime) -> Deferred[Reply] | None:
        """The answer to a signed request of the media type that it should have."""
        if fields.content_type != _JOSE or fields.origin is not None or len(body) > DEFAULT_BODY_LIMIT:
            return None
        match = _TARGET.fullmatch(target)
        found = None if match is None else self._table.find(match[1].split(b"/"))
        if found is None:
            return None
        return Deferred.fromCoroutine(self._reply(*found, target.decode("ascii"), body))

    async def _reply(self, post: Post, record: str, target: str, body: bytes) -> Reply:
        try:
            answer = await converse(post, body, target, record, None)
        except CancelledError:  # the client has gone
            raise
        except Refusal as refusal:
            answer = refused(refusal, self._server.urls)
        except Exception:
            self._log.failure("{method} {path} failed", method="POST", path=target)
            answer = refused(INTERNAL, self._server.urls)
        fields = header_fields(answer, index=self._index, nonce=self._server.nonces.fresh())
        head = b"".join(b"%s: %s\r\n" % (name, line) for name, lines in fields.items() for line in lines)
        return Reply(head, answer.body, _STATUS[answer.status])
