"""One root hands each request, with its whole path, to the first edge that claims it.

Edges own whole paths (`/ca/ocsp`, `/directory`), not mount points: what clients call is what the edge's routes spell.
"""

# mypy: disable-error-code="no-untyped-call"
# (Twisted's Site and Resource, which this file extends, are untyped.)

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote_to_bytes

from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource, getChildForRequest
from twisted.web.server import Site

from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.web.express import Express, Lane
from opencertd.web.limits import LimitedChannel, LimitedRequest, Limits, origin_form
from opencertd.web.proxy import NO_PROXIES, Proxies
from opencertd.web.refusals import answer_refusal, render_problem

DEFAULT_BODY_LIMIT = 65536

_PLAIN_PATH = re.compile(rb"/[!-$&-~]*\Z")
"""A path of printable ASCII with nothing percent-encoded in it."""


@dataclass(frozen=True)
class Edge:
    """A protocol room as the site sees it.

    `claims` gets a path's decoded segments (`/ca/ocsp` is `("ca", "ocsp")`) and says whether the edge answers it.
    `plain_http`: whether it may be asked without TLS. `body_limit`: bytes of the largest request body it takes.
    `lane`: answers some of the same requests from their bytes alone, with the same answers.
    """

    name: str
    resource: IResource
    claims: Callable[[tuple[str, ...]], bool]
    plain_http: bool
    body_limit: int = DEFAULT_BODY_LIMIT
    lane: Lane | None = None


class Root(Resource):
    """Every path there is: finds the edge, and refuses in JSON what none claims."""

    isLeaf = True

    def __init__(self, edges: Sequence[Edge], *, plain: bool = False) -> None:
        super().__init__()
        self.edges = tuple(edge for edge in edges if edge.plain_http or not plain)

    def edge_for(self, segments: tuple[str, ...]) -> Edge | None:
        """The first edge that claims the path."""
        return next((edge for edge in self.edges if edge.claims(segments)), None)

    def render(self, request: IRequest) -> Any:
        """Render the edge's resource, to which the whole path is still to come (`postpath`)."""
        try:
            _check_host(request)
            edge = self.edge_for(parse_segments(request.path))
            if edge is None:
                raise Refusal(RefusalKind.NOT_FOUND, "there is nothing at this path")
        except Refusal as refusal:
            return answer_refusal(request, refusal, render_problem)
        return getChildForRequest(edge.resource, request).render(request)


def parse_segments(path: bytes) -> tuple[str, ...]:
    """The decoded segments of an absolute path without its query. Refusal MALFORMED.

    Control characters are refused here, once for all edges: no route has a use for them, and stores choke on NUL.
    """
    if _PLAIN_PATH.match(path):
        return tuple(path[1:].decode("ascii").split("/"))
    if not path.startswith(b"/"):
        raise Refusal(RefusalKind.MALFORMED, "the request target is not a path")
    try:
        text = [unquote_to_bytes(segment).decode("utf-8") for segment in path[1:].split(b"/")]
    except UnicodeDecodeError:
        raise Refusal(RefusalKind.MALFORMED, "the path is not UTF-8") from None
    if any(ord(character) < 0x20 or ord(character) == 0x7F for segment in text for character in segment):
        raise Refusal(RefusalKind.MALFORMED, "the path has control characters")
    return tuple(text)


def _check_host(request: IRequest) -> None:
    """RFC 9112 §3.2: an HTTP/1.1 request has exactly one Host."""
    count = len(request.requestHeaders.getRawHeaders(b"Host") or ())
    if count > 1 or (count == 0 and cast(Any, request).clientproto == b"HTTP/1.1"):
        raise Refusal(RefusalKind.MALFORMED, "an HTTP/1.1 request has exactly one Host header")


class EdgeSite(Site):
    """The factory of one listener's connections; speaks HTTP/1.1 only."""

    requestFactory = LimitedRequest
    protocol = LimitedChannel  # type: ignore[assignment]  # Twisted's is a proxy that can also become HTTP/2
    resource: Root

    def __init__(
        self,
        root: Root,
        limits: Limits,
        *,
        reactor: IReactorTime,
        log_path: str | None,
        clock: Clock | None = None,
        proxies: Proxies = NO_PROXIES,
    ) -> None:
        super().__init__(
            root,
            parsePOSTFormSubmission=False,  # no edge takes forms, and looking for them costs more than most answers
            logPath=log_path,
            timeout=limits.idle_seconds,
            reactor=reactor,
        )
        self.limits = limits
        self.proxies = proxies
        lanes = tuple(edge.lane for edge in root.edges if edge.lane is not None)
        # An access log is written by the ordinary channel, and would lack what others answer.
        self.express = Express(lanes, clock) if lanes and clock is not None and log_path is None else None

    def body_limit(self, target: bytes) -> int:
        """Bytes of the largest body that may come with the request target."""
        try:
            edge = self.resource.edge_for(parse_segments(origin_form(target).partition(b"?")[0]))
        except Refusal:
            return DEFAULT_BODY_LIMIT
        return DEFAULT_BODY_LIMIT if edge is None else edge.body_limit

    def acceptableProtocols(self) -> list[bytes]:
        """Not h2, even where its library is installed: its limits are not ours. (`tls` says the same by ALPN.)"""
        return [b"http/1.1"]

    def log(self, request: Any) -> None:
        """Write the access log, when there is one."""
        if self.logPath is not None:
            super().log(request)


def build_site(
    edges: Sequence[Edge],
    *,
    reactor: IReactorTime,
    plain: bool = False,
    limits: Limits | None = None,
    log_path: str | None = None,
    clock: Clock | None = None,
    proxies: Proxies = NO_PROXIES,
) -> EdgeSite:
    """A site for one listener. `plain`: without TLS, so only edges that say `plain_http`. `log_path`: access log.

    `clock`: of the edges' express lanes; without it they are not used. `proxies`: whose word is taken for clients.
    """
    root = Root(edges, plain=plain)
    return EdgeSite(root, limits or Limits(), reactor=reactor, log_path=log_path, clock=clock, proxies=proxies)
