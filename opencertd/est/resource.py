"""EST over HTTP: routes of RFC 7030 §3.2.2, and nothing but translation between requests and the conversation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.web.iweb import IRequest

from opencertd.asn1.cms import encode_certs_only
from opencertd.errors import Refusal, RefusalKind
from opencertd.est import forms, messages
from opencertd.est.forms import CertificateForm
from opencertd.est.messages import BodyForm
from opencertd.est.server import EstServer
from opencertd.keys.channel_binding import ChannelBinding
from opencertd.model.request import IssuedCertificate
from opencertd.model.requester import Proof, Requester
from opencertd.web.authentication import Authenticator
from opencertd.web.binding import request_binding
from opencertd.web.refusals import body_of, handle_refusals, header, new_app
from opencertd.web.site import Edge

_ROOT = "/.well-known/est"
_ENROLMENT_FORMS = tuple(CertificateForm)
_CACERTS_FORMS = tuple(form for form in CertificateForm if form is not CertificateForm.DER)  # there are several
Ders = tuple[bytes, ...]
_Operation = Callable[[Requester, str, bytes, ChannelBinding | None], Awaitable[IssuedCertificate]]

_Beside = Callable[[IRequest, str, Requester], Awaitable[Requester]]


class EstResource:
    """The routes. `body_form`: how base64 answers are broken into lines, see `BodyForm`.

    `open_csrattrs`: whether csrattrs is told to those who have not proven who they are.
    `serverkeygen`: whether keys are made for clients.

    An operation is always the last segment, so that no label can shadow one.
    """

    app = new_app()

    def __init__(
        self,
        *,
        server: EstServer,
        authenticator: Authenticator,
        body_form: BodyForm = BodyForm.AUTO,
        open_csrattrs: bool = False,
        serverkeygen: bool = True,
    ) -> None:
        self._serverkeygen = serverkeygen
        self._server = server
        self._open_csrattrs = open_csrattrs
        self._authenticator = authenticator
        self._body_form = body_form

    @app.route(f"{_ROOT}/cacerts", methods=["GET"])
    @app.route(f"{_ROOT}/<label>/cacerts", methods=["GET"])
    def cacerts(self, request: IRequest, label: str | None = None) -> bytes:
        """RFC 7030 §4.1.2: no authentication, since a client asks before it has any credential."""
        self._server.profile(label)
        form = forms.choose_form(header(request, "Accept"), _CACERTS_FORMS)
        found = self._server.cacerts()
        return self._certificates(request, form, found, found, messages.CACERTS_TYPE)

    @app.route(f"{_ROOT}/csrattrs", methods=["GET"])
    @app.route(f"{_ROOT}/<label>/csrattrs", methods=["GET"])
    async def csrattrs(self, request: IRequest, label: str | None = None) -> bytes:
        """RFC 7030 §4.5.2: 204 where nothing is wanted, never an empty SEQUENCE, over which libest loops for ever."""
        profile = self._server.profile(label)
        if not self._open_csrattrs:
            await self._authenticated(request)
        wanted = self._server.csrattrs(profile)
        if wanted is None:
            request.setResponseCode(204)  # type: ignore[no-untyped-call]
            return b""
        return self._base64(request, wanted, messages.CSRATTRS_TYPE)

    @app.route(f"{_ROOT}/simpleenroll", methods=["POST"])
    @app.route(f"{_ROOT}/<label>/simpleenroll", methods=["POST"])
    async def simpleenroll(self, request: IRequest, label: str | None = None) -> bytes:
        """RFC 7030 §4.2.1."""
        return await self._enrol(request, label, self._server.simpleenroll)

    @app.route(f"{_ROOT}/simplereenroll", methods=["POST"])
    @app.route(f"{_ROOT}/<label>/simplereenroll", methods=["POST"])
    async def simplereenroll(self, request: IRequest, label: str | None = None) -> bytes:
        """RFC 7030 §4.2.2."""
        return await self._enrol(request, label, self._server.simplereenroll, self._by_token_too)

    @app.route(f"{_ROOT}/serverkeygen", methods=["POST"])
    @app.route(f"{_ROOT}/<label>/serverkeygen", methods=["POST"])
    async def serverkeygen(self, request: IRequest, label: str | None = None) -> bytes:
        """RFC 7030 §4.4.1: the key that is made is told once, and kept by nobody on the way."""
        profile = self._server.profile(label)
        if not self._serverkeygen:
            raise Refusal(RefusalKind.NOT_FOUND, "this CA does not offer the EST operation serverkeygen")
        try:
            requester = await self._authenticator.authenticate(request)
            forms.check_accepts(header(request, "Accept"), "multipart/mixed")
            body = messages.parse_enrolment(header(request, "Content-Type"), body_of(request))
            made = await self._server.serverkeygen(requester, profile, body, request_binding(request))
        except Refusal as refusal:
            await self._authenticator.challenge(request, refusal)
            raise
        request.responseHeaders.setRawHeaders(b"Cache-Control", [b"no-store"])
        certificates = encode_certs_only((made.issued.certificate_der,))
        answer = messages.encode_generated(made.part, encrypted=made.encrypted, certificates_cms=certificates)
        return _answer(request, answer, messages.GENERATED_TYPE)

    @app.route(f"{_ROOT}/fullcmc", methods=["POST"])
    @app.route(f"{_ROOT}/<label>/fullcmc", methods=["POST"])
    def fullcmc(self, request: IRequest, label: str | None = None) -> bytes:
        """RFC 7030 §4.3 is optional."""
        self._server.profile(label)
        raise Refusal(
            RefusalKind.NOT_IMPLEMENTED,
            "this CA does not speak Full CMC: send the PKCS#10 request to simpleenroll or simplereenroll",
        )

    async def _by_token_too(self, request: IRequest, profile: str, requester: Requester) -> Requester:
        """Who has proven the certificate that is to be renewed, when a token came beside it."""
        if requester.proof is not Proof.BEARER_TOKEN:
            return requester
        self._server.check_renewal_by_token(profile)
        return await self._authenticator.by_certificate(request)

    async def _enrol(
        self, request: IRequest, label: str | None, operation: _Operation, beside: _Beside | None = None
    ) -> bytes:
        profile = self._server.profile(label)
        try:
            requester = await self._authenticator.authenticate(request)
            if beside is not None:
                requester = await beside(request, profile, requester)
            form = forms.choose_form(header(request, "Accept"), _ENROLMENT_FORMS)  # before anything is issued
            body = messages.parse_enrolment(header(request, "Content-Type"), body_of(request))
            issued = await operation(requester, profile, body, request_binding(request))
        except Refusal as refusal:
            await self._authenticator.challenge(request, refusal)
            raise
        alone = (issued.certificate_der,)
        return self._certificates(request, form, alone, issued.chain_der, messages.ENROLMENT_TYPE)

    async def _authenticated(self, request: IRequest) -> Requester:
        try:
            return await self._authenticator.authenticate(request)
        except Refusal as refusal:
            await self._authenticator.challenge(request, refusal)
            raise

    def _certificates(
        self, request: IRequest, form: CertificateForm, alone: Ders, chain: Ders, media_type: str
    ) -> bytes:
        request.responseHeaders.setRawHeaders(b"Vary", [b"Accept"])
        if form is CertificateForm.CERTS_ONLY:
            return self._base64(request, encode_certs_only(alone), media_type)
        return _answer(request, forms.encode_plain(form, alone, chain), form.value)

    def _base64(self, request: IRequest, data: bytes, media_type: str) -> bytes:
        body = messages.encode_transfer(data, self._body_form, header(request, "User-Agent"))
        request.responseHeaders.setRawHeaders(b"Content-Transfer-Encoding", [b"base64"])
        return _answer(request, body, media_type)


def _answer(request: IRequest, body: bytes, media_type: str) -> bytes:
    headers = request.responseHeaders
    headers.setRawHeaders(b"Content-Type", [media_type.encode()])
    headers.setRawHeaders(b"Content-Length", [b"%d" % len(body)])  # strongSwan cannot read chunks
    return body


def render(request: IRequest, refusal: Refusal) -> bytes:
    """The text of a refusal and its headers; the status is set by the table that all edges share."""
    default = messages.RETRY_AFTER.get(refusal.kind)
    if default is not None and refusal.retry_after is None:
        request.responseHeaders.setRawHeaders(b"Retry-After", [b"%d" % default])
    return _answer(request, messages.encode_refusal(refusal), messages.REFUSAL_TYPE)


handle_refusals(EstResource.app, render)


def edge(resource: EstResource) -> Edge:
    """EST, over TLS only."""
    return Edge(
        name="est",
        resource=resource.app.resource(),
        claims=lambda segments: segments[:2] == (".well-known", "est"),
        plain_http=False,
    )
