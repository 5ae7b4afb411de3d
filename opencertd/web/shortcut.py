"""A table of POST routes in front of a router: what most requests ask for is found by one look into a dictionary.

A router answers for everything (other methods, paths that are nobody's, spellings of a path); finding and calling a
route by it costs more than reading from the store. The table knows only what the router knows too, and leaves to it
whatever is not written exactly as in the table.
"""

# mypy: disable-error-code="no-untyped-call"
# (Twisted's Resource and Request are untyped.)

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from opencertd.web.refusals import Renderer, answer_failure

Handler = Callable[[IRequest, str], Coroutine[Deferred[Any], Any, bytes]]
"""Sets the answer's headers and returns its body; gets what stands for `<record>`, or nothing."""

T = TypeVar("T")

RECORD = "<record>"
"""What a route says for a segment that may be any; one at most."""


class PostTable(Generic[T]):
    """What stands for each of `routes`, which read `/word`, `/word/<record>` or `/word/<record>/word`."""

    def __init__(self, routes: Mapping[str, T]) -> None:
        self._routes = {_key(tuple(route.encode("ascii").split(b"/")[1:])): what for route, what in routes.items()}

    def find(self, path: Sequence[bytes]) -> tuple[T, str] | None:
        """What stands for the segments of a path, and its record or nothing. None for another spelling, too."""
        if not 1 <= len(path) <= 3 or not path[-1]:
            return None
        if len(path) == 1:
            what, record = self._routes.get((path[0],)), b""
        else:
            what, record = self._routes.get((path[0], None, *path[2:])), path[1]
        return None if what is None or not record.isascii() else (what, record.decode("ascii"))


class PostShortcut(Resource):
    """The resource of an edge: POSTs to `routes` by the table, all else by `router`. What is raised: by `render`."""

    isLeaf = True

    def __init__(self, routes: Mapping[str, Handler], router: IResource, render: Renderer) -> None:
        super().__init__()
        self._table = PostTable(routes)
        self._router = router
        self._render = render

    def render(self, request: IRequest) -> Any:
        """Answer, now or later."""
        found = self._table.find(request.postpath) if request.method == b"POST" else None
        if found is not None:
            _answer(request, *found, self._render)
            return NOT_DONE_YET
        return self._router.render(request)


def _key(segments: tuple[bytes, ...]) -> tuple[bytes | None, ...]:
    key = tuple(None if segment == RECORD.encode("ascii") else segment for segment in segments)
    if not 1 <= len(key) <= 3 or None in (*key[:1], *key[2:]) or (len(key) > 1 and key[1] is not None):
        raise ValueError("a route of the table reads /word, /word/<record> or /word/<record>/word")
    return key


def _answer(request: IRequest, handler: Handler, record: str, render: Renderer) -> None:
    answered = cast(Any, request)
    deed = Deferred.fromCoroutine(handler(request, record))
    gone = []

    def hung_up(_: Failure) -> None:
        gone.append(True)
        deed.cancel()  # as a router does: whatever must be finished is shielded

    def failed(failure: Failure) -> bytes:
        if gone and failure.check(CancelledError):
            return b""
        return answer_failure(request, failure, render)

    def finish(body: bytes) -> None:
        if not gone:
            answered.write(body)
            answered.finish()

    answered.notifyFinish().addErrback(hung_up)
    deed.addErrback(failed).addCallback(finish).addErrback(answered.processingFailed)
