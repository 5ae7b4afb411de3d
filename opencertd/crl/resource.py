"""CRLs over HTTP (RFC 5280 §4.2.1.13, RFC 2585 §3): DER unless PEM is asked for, revalidated at each use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from twisted.web.iweb import IRequest

from opencertd.clock import Clock
from opencertd.crl.messages import CrlForm, choose_form
from opencertd.crl.server import CrlServer
from opencertd.crl.store import Line, PublishedCrl, parse_line
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuer
from opencertd.web.refusals import handle_refusals, header, new_app
from opencertd.web.remembered import Remembered
from opencertd.web.site import Edge

DEFAULT_PROFILE = "default"
_ROUNDED = timedelta(seconds=1)
"""By how much a thisUpdate may lie before the second in which the CRL was made."""


class CrlResource:
    """Routes `/ca/crl`, `/ca/{name}/crl` and `/ca/{name}/crl/{part}`, `name` being an issuer's or a profile's.

    `issuer_for`: the first issuer of a profile; Refusal NOT_FOUND when there is no such profile.
    """

    app = new_app()

    def __init__(
        self,
        *,
        server: CrlServer,
        issuer_for: Callable[[str, bytes | None], Issuer],
        clock: Clock,
    ) -> None:
        self._server = server
        self._issuer_for = issuer_for
        self._clock = clock
        self.remembered = Remembered(clock)

    @app.route("/ca/crl", methods=["GET"])
    async def first(self, request: IRequest) -> bytes:
        """The CRL of the default profile's first issuer; as PEM, those of all issuers, as `openssl -CRLfile` reads."""
        form = choose_form(request.uri, header(request, "Accept"))
        if form is CrlForm.PEM:
            return await self._answer(request, form, self._server.issuers.all())
        return await self._answer(request, form, (self._issuer_for(DEFAULT_PROFILE, None),))

    @app.route("/ca/<name>/crl", methods=["GET"])
    async def named(self, request: IRequest, name: str) -> bytes:
        """The CRL of one issuer."""
        form = choose_form(request.uri, header(request, "Accept"))
        return await self._answer(request, form, (self._issuer(name),))

    @app.route("/ca/<name>/crl/<word>", methods=["GET"])
    async def part(self, request: IRequest, name: str, word: str) -> bytes:
        """The CRL of one part of an issuer's certificates, or its delta CRL."""
        form = choose_form(request.uri, header(request, "Accept"))
        issuer = self._issuer(name)
        line = parse_line(issuer.id, word) if word else None
        if line is None:
            raise Refusal(RefusalKind.NOT_FOUND, f"{issuer.name} has no such CRL")
        return await self._answer(request, form, (issuer,), line)

    def _issuer(self, name: str) -> Issuer:
        return self._server.issuers.by_name(name) or self._issuer_for(name, None)

    async def _answer(
        self, request: IRequest, form: CrlForm, issuers: Sequence[Issuer], line: Line | None = None
    ) -> bytes:
        since = self._clock.now()
        crls = [await self._server.current(issuer, line) for issuer in issuers]
        bodies = [await self._server.pem(crl) if form is CrlForm.PEM else crl.crl_der for crl in crls]
        headers = request.responseHeaders
        headers.setRawHeaders(b"Content-Type", [form.value.encode()])
        # Kept, but asked about at each use: a 304 costs next to nothing, and a revocation shows at once.
        headers.setRawHeaders(b"Cache-Control", [b"public, no-cache, no-transform"])
        headers.setRawHeaders(b"Vary", [b"Accept"])
        return self.remembered.answer(
            request,
            b"".join(bodies),
            etag=build_etag(form, crls),
            changed_at=max(crl.this_update for crl in crls) + _ROUNDED,
            since=since,
        )


def build_etag(form: CrlForm, crls: Sequence[PublishedCrl]) -> str:
    """Issuer, number and date name a CRL as well as a hash of its megabytes would."""
    names = ".".join(f"{_short(crl.line)}-{crl.number}-{crl.this_update:%Y%m%d%H%M%S}" for crl in crls)
    return f'"{form.name.lower()}.{names}"'


def _short(line: Line) -> str:
    issuer, slash, word = line.key.partition("/")
    return f"{issuer[:12]}{slash}{word}"


def render(request: IRequest, refusal: Refusal) -> bytes:
    """A line of text; the status is set by the table that all edges share."""
    request.responseHeaders.setRawHeaders(b"Content-Type", [b"text/plain; charset=utf-8"])
    request.responseHeaders.setRawHeaders(b"Cache-Control", [b"no-store"])
    return f"{refusal.detail}\n".encode()


handle_refusals(CrlResource.app, render)


def claims(segments: tuple[str, ...]) -> bool:
    """`/ca/crl`, `/ca/{name}/crl` and `/ca/{name}/crl/{part}`."""
    if segments[:1] != ("ca",):
        return False
    return segments[1:] == ("crl",) or (len(segments) in (3, 4) and segments[2] == "crl")


def edge(*, server: CrlServer, issuer_for: Callable[[str, bytes | None], Issuer], clock: Clock) -> Edge:
    """CRLs as the site mounts them. They are asked without TLS: they are signed, and checking TLS may need them."""
    crls = CrlResource(server=server, issuer_for=issuer_for, clock=clock)
    return Edge(name="crl", resource=crls.app.resource(), claims=claims, plain_http=True, lane=crls.remembered)
