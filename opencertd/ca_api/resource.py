"""The authenticated part of the `/ca` API over HTTP: enrol, list, revoke, reinstate. Translation only."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

from twisted.web.iweb import IRequest

from opencertd.asn1.pem import encode_certificates
from opencertd.asn1.transfer import decode_transfer
from opencertd.ca_api import messages
from opencertd.ca_api.requests import RequestsServer
from opencertd.ca_api.server import CaApiServer
from opencertd.errors import Refusal, RefusalKind
from opencertd.model.requester import Requester
from opencertd.web.authentication import Authenticator
from opencertd.web.refusals import HTTP_STATUS, body_of, handle_refusals, header, new_app
from opencertd.web.site import Edge

T = TypeVar("T")


class CaApiResource:
    """The routes under `/ca` for those who have proven who they are."""

    app = new_app()

    def __init__(self, *, server: CaApiServer, requests: RequestsServer, authenticator: Authenticator) -> None:
        self._server = server
        self._requests = requests
        self._authenticator = authenticator

    @app.route("/ca/csr", methods=["POST"])
    async def enrol(self, request: IRequest) -> bytes:
        """A CSR in, whatever the Content-Type says (curl's default is a form's); the PEM chain without root out.

        202 with Retry-After while somebody is to decide: the same request again is told what was decided.
        """
        requester = await self._requester(request)
        parameters = messages.parse_query(request.uri)
        validity = messages.parse_validity(parameters.get("validity"))
        issued = await self._server.enrol(
            requester, parameters.get("profile"), decode_transfer(body_of(request)), validity
        )
        return _answer(request, encode_certificates(issued.chain_der), messages.PEM_TYPE)

    @app.route("/ca/inventory", methods=["GET"])
    async def inventory(self, request: IRequest) -> bytes:
        """A page of issued certificates, to anybody proven: it tells names, so not to everybody."""
        self._server.check_may_read(await self._requester(request))
        after, limit = messages.parse_page(messages.parse_query(request.uri))
        return _json(request, await self._server.inventory(after, limit))

    @app.route("/ca/inventory/<serial>", methods=["GET"])
    async def certificates(self, request: IRequest, serial: str) -> bytes:
        """The certificates of one serial number."""
        self._server.check_may_read(await self._requester(request))
        return _json(request, await self._server.certificates(serial))

    @app.route("/ca/revoke", methods=["DELETE"])
    async def revoke(self, request: IRequest) -> bytes:
        """`?sn=HEX&reason=NAME&signature=B64`, `invalidityDate`, and `issuer` when two issuers used the serial."""
        requester = await self._requester(request)
        parameters = messages.parse_query(request.uri)
        deed = self._server.revoke(
            requester,
            sn=parameters.get("sn", ""),
            reason=parameters.get("reason", ""),
            signature=parameters.get("signature", ""),
            invalidity_date=parameters.get("invalidityDate", ""),
            issuer=parameters.get("issuer"),
        )
        return _json(request, await self._challenged(request, deed))

    @app.route("/ca/reinstate", methods=["POST"])
    async def reinstate(self, request: IRequest) -> bytes:
        """`?sn=HEX&signature=B64`, and `issuer` when two issuers used the serial."""
        requester = await self._requester(request)
        parameters = messages.parse_query(request.uri)
        deed = self._server.reinstate(
            requester,
            sn=parameters.get("sn", ""),
            signature=parameters.get("signature", ""),
            issuer=parameters.get("issuer"),
        )
        return _json(request, await self._challenged(request, deed))

    @app.route("/ca/requests", methods=["GET"])
    async def waiting(self, request: IRequest) -> bytes:
        """A page of the requests that wait for a decision."""
        requester = await self._requester(request)
        after, limit = messages.parse_page(messages.parse_query(request.uri))
        return _json(request, await self._requests.waiting(requester, after, limit))

    @app.route("/ca/requests/<identity>/approve", methods=["POST"])
    async def approve(self, request: IRequest, identity: str) -> bytes:
        """`?reason=TEXT`, for the audit log."""
        return await self._decide(request, identity, approved=True)

    @app.route("/ca/requests/<identity>/reject", methods=["POST"])
    async def reject(self, request: IRequest, identity: str) -> bytes:
        """`?reason=TEXT`, which the requester is told."""
        return await self._decide(request, identity, approved=False)

    async def _decide(self, request: IRequest, identity: str, *, approved: bool) -> bytes:
        requester = await self._requester(request)
        if header(request, "Origin") is not None:  # a page of somebody who waits could have the approver's browser ask
            raise Refusal(RefusalKind.UNAUTHORIZED, "web pages decide nothing here")
        reason = messages.parse_query(request.uri).get("reason", "")
        return _json(request, await self._requests.decide(requester, identity, reason, approved=approved))

    async def _requester(self, request: IRequest) -> Requester:
        return await self._challenged(request, self._authenticator.authenticate(request))

    async def _challenged(self, request: IRequest, deed: Awaitable[T]) -> T:
        """What `deed` answers; when it refuses because nobody was proven, the answer says how to prove oneself."""
        try:
            return await deed
        except Refusal as refusal:
            await self._authenticator.challenge(request, refusal)
            raise


def _json(request: IRequest, document: Mapping[str, Any]) -> bytes:
    return _answer(request, messages.encode_json(document), messages.JSON_TYPE)


def _answer(request: IRequest, body: bytes, media_type: str) -> bytes:
    headers = request.responseHeaders
    headers.setRawHeaders(b"Content-Type", [media_type.encode()])
    headers.setRawHeaders(b"Content-Length", [b"%d" % len(body)])
    headers.setRawHeaders(b"Cache-Control", [b"no-store"])
    return body


def render(request: IRequest, refusal: Refusal) -> bytes:
    """The problem document of a refusal; the status is set by the table that all edges share."""
    if refusal.kind is RefusalKind.PENDING:
        return _answer(request, messages.encode_pending(refusal), messages.JSON_TYPE)
    problem = messages.encode_problem(HTTP_STATUS[refusal.kind], refusal)
    return _answer(request, problem, messages.PROBLEM_TYPE)


handle_refusals(CaApiResource.app, render)

_CLAIMED = (("csr",), ("inventory",), ("revoke",), ("reinstate",), ("requests",))


def edge(resource: CaApiResource) -> Edge:
    """The authenticated part of the API, over TLS only."""
    return Edge(
        name="ca-api",
        resource=resource.app.resource(),
        claims=lambda segments: segments[:1] == ("ca",) and segments[1:2] in _CLAIMED,
        plain_http=False,
    )
