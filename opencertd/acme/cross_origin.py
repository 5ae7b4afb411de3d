"""Pages of any origin may speak ACME (RFC 8555 §6.1): requests are signed, so a browser adds no right to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from klein import Klein
from twisted.web.iweb import IRequest

_EXPOSED = b"Link, Replay-Nonce, Location, Retry-After"
_REMEMBERED = b"86400"


def allow_origin(request: IRequest, methods: bytes | None = None) -> None:
    """Let the page that asks read the answer. `methods`: what a preflight is told may be used."""
    if not request.requestHeaders.hasHeader(b"Origin"):
        return
    headers = request.responseHeaders
    headers.setRawHeaders(b"Access-Control-Allow-Origin", [b"*"])
    headers.setRawHeaders(b"Access-Control-Expose-Headers", [_EXPOSED])
    if methods is not None:
        headers.setRawHeaders(b"Access-Control-Allow-Methods", [methods])
        headers.setRawHeaders(b"Access-Control-Allow-Headers", [b"Content-Type"])
        headers.setRawHeaders(b"Access-Control-Max-Age", [_REMEMBERED])


def answer_preflights(app: Klein, routes: Mapping[str, str]) -> None:
    """OPTIONS for each of the routes of `app`, which take the methods that are named."""
    for path, methods in routes.items():
        app.route(path, methods=["OPTIONS"], endpoint=f"OPTIONS {path}")(_answer_for(methods))


def _answer_for(named: str) -> Callable[..., bytes]:
    methods = named.encode("ascii")

    def answer(request: IRequest, **_parts: str) -> bytes:
        request.responseHeaders.setRawHeaders(b"Allow", [methods + b", OPTIONS"])
        allow_origin(request, methods)
        return b""

    return answer
