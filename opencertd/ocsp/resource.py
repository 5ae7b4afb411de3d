"""OCSP over HTTP (RFC 6960 appendix A, RFC 9919 §5 and §7): POST and GET, and what caches are told.

Refusals travel as OCSP statuses in HTTP 200: on any other status `openssl ocsp` hides the reason.
"""

from __future__ import annotations

from twisted.web.iweb import IRequest
from werkzeug.routing import BaseConverter

from opencertd.asn1.ocsp import LARGEST_REQUEST
from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.ocsp.caching import shared, unshared
from opencertd.ocsp.lane import OcspLane
from opencertd.ocsp.messages import REQUEST_TYPE, build_refusal, request_of_uri
from opencertd.ocsp.server import OcspServer
from opencertd.web.refusals import body_of, handle_refusals, header, new_app
from opencertd.web.reply import send_reply
from opencertd.web.site import Edge


class _Anything(BaseConverter):
    """The rest of a path, slashes and all, doubled and leading ones too; its bytes are read from the raw URI."""

    regex = ".*"
    part_isolating = False


class OcspResource:
    """Routes `/ca/ocsp` and `/ca/{profile}/ocsp`, which answer alike: the CertIDs say which issuer is meant."""

    app = new_app()
    app.url_map.converters = {**app.url_map.converters, "anything": _Anything}

    def __init__(self, *, server: OcspServer, clock: Clock) -> None:
        self._server = server
        self._clock = clock

    @app.route("/ca/ocsp", methods=["POST"])
    @app.route("/ca/ocsp/", methods=["POST"])
    @app.route("/ca/<profile>/ocsp", methods=["POST"])
    @app.route("/ca/<profile>/ocsp/", methods=["POST"])
    async def post(self, request: IRequest, profile: str | None = None) -> bytes:
        """RFC 6960 §A.1. A POST's answer is for whoever asked."""
        media_type = (header(request, "Content-Type") or REQUEST_TYPE).partition(";")[0].strip().lower()
        if media_type != REQUEST_TYPE:
            raise Refusal(RefusalKind.UNSUPPORTED_MEDIA_TYPE, f"an OCSP request is of type {REQUEST_TYPE}")
        answer = await self._server.answer(body_of(request))
        return send_reply(request, unshared(answer.body))

    @app.route("/ca/ocsp", methods=["GET"])
    @app.route("/ca/ocsp/<anything:encoded>", methods=["GET"])
    @app.route("/ca/<profile>/ocsp", methods=["GET"])
    @app.route("/ca/<profile>/ocsp/<anything:encoded>", methods=["GET"])
    async def get(self, request: IRequest, profile: str | None = None, encoded: str = "") -> bytes:
        """RFC 6960 §A.1; read from the raw URI, since decoded segments cannot tell `/` from `%2F`."""
        request_der = request_of_uri(request.uri, segments=2 if profile is None else 3)
        answer = await self._server.answer(request_der)
        asked_by = header(request, "If-None-Match"), header(request, "If-Modified-Since")
        return send_reply(request, shared(answer, *asked_by, self._clock.now()))


def render(request: IRequest, refusal: Refusal) -> bytes:
    """The refusal as an OCSP status in HTTP 200; but a 405 says 405, or nobody would understand it."""
    reply = unshared(build_refusal(refusal).body)
    if refusal.kind is RefusalKind.METHOD_NOT_ALLOWED:
        reply = reply._replace(status=b"405 Method Not Allowed")
    return send_reply(request, reply)


handle_refusals(OcspResource.app, render)


def claims(segments: tuple[str, ...]) -> bool:
    """`/ca/ocsp…` and `/ca/{profile}/ocsp…`."""
    return segments[:1] == ("ca",) and "ocsp" in segments[1:3]


def edge(*, server: OcspServer, clock: Clock) -> Edge:
    """OCSP as the site mounts it. It is asked without TLS: its answers are signed, and TLS would have to ask OCSP."""
    resource = OcspResource(server=server, clock=clock).app.resource()
    return Edge(
        name="ocsp",
        resource=resource,
        claims=claims,
        plain_http=True,
        body_limit=LARGEST_REQUEST,
        lane=OcspLane(server),
    )
