"""A `Refusal` leaves as an HTTP answer by one table; nothing else that is raised says more than "internal".

Klein, werkzeug and Twisted each have their own pages for errors, in HTML; `new_app` and `handle_refusals` put ours in
their place. Problem documents are RFC 9457.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from io import BytesIO
from typing import Any, cast

from klein import Klein
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from opencertd.errors import Refusal, RefusalKind

HTTP_STATUS: Mapping[RefusalKind, int] = {
    RefusalKind.MALFORMED: 400,
    RefusalKind.BAD_CSR: 400,
    RefusalKind.BAD_PUBLIC_KEY: 400,
    RefusalKind.BAD_SIGNATURE_ALGORITHM: 400,
    RefusalKind.BAD_NONCE: 400,
    RefusalKind.BAD_REVOCATION_REASON: 400,
    RefusalKind.REJECTED_NAME: 403,
    RefusalKind.UNSUPPORTED_NAME: 400,
    RefusalKind.INVALID_CONTACT: 400,
    RefusalKind.UNSUPPORTED_CONTACT: 400,
    RefusalKind.USER_ACTION_REQUIRED: 403,
    RefusalKind.EXTERNAL_ACCOUNT_REQUIRED: 403,
    RefusalKind.ACCOUNT_DOES_NOT_EXIST: 400,
    RefusalKind.UNAUTHENTICATED: 401,
    RefusalKind.UNAUTHORIZED: 403,
    RefusalKind.NOT_FOUND: 404,
    RefusalKind.METHOD_NOT_ALLOWED: 405,
    RefusalKind.UNSUPPORTED_MEDIA_TYPE: 415,
    RefusalKind.NOT_ACCEPTABLE: 406,
    RefusalKind.NOT_IMPLEMENTED: 501,
    RefusalKind.TOO_LARGE: 413,
    RefusalKind.NOT_READY: 409,
    RefusalKind.CONFLICT: 409,
    RefusalKind.ALREADY_REVOKED: 409,
    RefusalKind.RATE_LIMITED: 429,
    RefusalKind.INVALID_PROFILE: 400,
    RefusalKind.ALREADY_REPLACED: 409,
    RefusalKind.RENEWAL_CANCELED: 403,
    RefusalKind.RENEWAL_ENDED: 403,
    RefusalKind.CANCELLATION_INVALID: 400,
    RefusalKind.REVOCATION_NOT_SUPPORTED: 403,
    RefusalKind.PENDING: 202,
    RefusalKind.UNAVAILABLE: 503,
    RefusalKind.INTERNAL: 500,
}
"""The status of each kind where a protocol does not say otherwise; an edge's renderer may set another."""

Renderer = Callable[[IRequest, Refusal], bytes]
"""Sets an answer's headers (and another status, if its protocol wants one) and returns its body."""

INTERNAL = Refusal(RefusalKind.INTERNAL, "the CA failed to answer this request; its log says why")

_log = Logger()


def new_app() -> Klein:
    """A Klein whose routes are exactly what they spell.

    No redirect to or from a trailing slash (a 308 loses the body of a POST in many clients), doubled slashes are kept
    (OCSP's GET has them in its base64). GET routes answer HEAD too, as werkzeug has it.
    """
    app = Klein()
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False
    return app


def handle_refusals(app: Klein, render: Renderer) -> None:
    """Answer whatever the routes of `app` raise, and its 404s and 405s, by `render`.

    Before `render` runs, the answer has the status of `HTTP_STATUS`, `Retry-After` and `Allow` as the refusal says.
    Call it once, where `app` is made (a Klein in a class body shares its handlers among all instances). A client that
    hung up is answered by nobody: Klein cancels the route and keeps silent.
    """

    def on_failure(*arguments: Any) -> bytes:
        request, failure = arguments[-2:]  # Klein puts the instance first when the app lives in a class
        return answer_failure(request, failure, render)

    app.handle_errors(Exception)(cast(Any, on_failure))


def answer_failure(request: IRequest, failure: Failure, render: Renderer) -> bytes:
    """The body of the answer to a failed request, its status and headers set. What is no refusal is logged."""
    refusal = _as_refusal(failure.value)
    if refusal is INTERNAL:
        _log.failure("{method} {path} failed", failure, method=request.method, path=request.path)
    http_request = cast(Any, request)
    if http_request.startedWriting:
        http_request.break_off()
        return b""
    return answer_refusal(request, refusal, render)


def answer_refusal(request: IRequest, refusal: Refusal, render: Renderer) -> bytes:
    """The body of the answer that says `refusal`, its status and headers set."""
    request.setResponseCode(HTTP_STATUS[refusal.kind])  # type: ignore[no-untyped-call]
    headers = request.responseHeaders
    if refusal.retry_after is not None:
        headers.setRawHeaders(b"Retry-After", [b"%d" % refusal.retry_after])
    if refusal.kind is RefusalKind.METHOD_NOT_ALLOWED:
        headers.setRawHeaders(b"Allow", [", ".join(refusal.allowed).encode("ascii")])
    return render(request, refusal)


def render_problem(request: IRequest, refusal: Refusal) -> bytes:
    """A problem document with no type of its own (RFC 9457 §4.2.1), for what no protocol speaks for."""
    request.responseHeaders.setRawHeaders(b"Content-Type", [b"application/problem+json"])
    return encode_problem(HTTP_STATUS[refusal.kind], refusal.detail)


def encode_problem(status: int, detail: str) -> bytes:
    """The JSON of an RFC 9457 problem of type about:blank."""
    title = HTTPStatus(status).phrase
    return json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail}).encode("ascii")


def _as_refusal(error: BaseException | None) -> Refusal:
    if isinstance(error, Refusal):
        return error
    if isinstance(error, NotFound):
        return Refusal(RefusalKind.NOT_FOUND, "there is nothing at this path")
    if isinstance(error, MethodNotAllowed):
        allowed = tuple(sorted(error.valid_methods or ()))
        return Refusal(RefusalKind.METHOD_NOT_ALLOWED, f"this path takes {', '.join(allowed)}", allowed=allowed)
    if isinstance(error, HTTPException) and error.code is not None and error.code < 500:
        return Refusal(RefusalKind.MALFORMED, "the request does not fit this path")
    return INTERNAL


def body_of(request: IRequest) -> bytes:
    """The whole body of `request`, which the site has kept below the edge's limit. May be called again."""
    content = cast(BytesIO, request.content)
    content.seek(0)
    return content.read()


def header(request: IRequest, name: str) -> str | None:
    """The value of a request header; several of one name are joined by ", " (RFC 9110 §5.3). None when absent."""
    values = request.requestHeaders.getRawHeaders(name.encode("ascii"))
    if values is None:
        return None
    return b", ".join(values).decode("latin-1")
