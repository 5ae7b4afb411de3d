"""The CA's own certificates over HTTP, for everybody: what AIA `caIssuers` points at (RFC 5280 §4.2.2.1).

Also on plain HTTP, since a client that builds a chain to check TLS cannot use TLS for it.
"""

from __future__ import annotations

import hashlib

from twisted.web.iweb import IRequest

from opencertd.asn1.cms import encode_certs_only
from opencertd.asn1.pem import encode_certificates
from opencertd.ca_api import messages
from opencertd.ca_api.messages import CertificateForm
from opencertd.ca_api.resource import render
from opencertd.ca_api.server import CaApiServer
from opencertd.clock import Clock
from opencertd.issuance.issuers import Issuer
from opencertd.web.refusals import handle_refusals, header, new_app
from opencertd.web.remembered import Remembered
from opencertd.web.site import Edge

_MAX_AGE = 3600  # seconds; a renewed CA certificate is seen within the hour


class CertificatesResource:
    """`/ca/certificate` and `/ca/{name}/certificate`, `name` being an issuer's or a profile's."""

    app = new_app()

    def __init__(self, *, server: CaApiServer, clock: Clock) -> None:
        self._server = server
        self._clock = clock
        self.remembered = Remembered(clock)

    @app.route("/ca/certificate", methods=["GET"])
    @app.route("/ca/<name>/certificate", methods=["GET"])
    def certificate(self, request: IRequest, name: str | None = None) -> bytes:
        """The issuing certificate as DER; its whole chain with the root as PEM or PKCS#7 when that is asked."""
        issuer = self._server.issuer(name)
        asked = messages.parse_query(request.uri).get("format")
        form = messages.parse_form(asked, header(request, "Accept"))
        body = _encode(issuer, form)
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = request.responseHeaders
        headers.setRawHeaders(b"Content-Type", [form.media_type.encode()])
        headers.setRawHeaders(b"Cache-Control", [b"public, max-age=%d" % _MAX_AGE])
        headers.setRawHeaders(b"Vary", [b"Accept"])
        # By tag only: a certificate that takes another's place may well be the older of the two.
        return self.remembered.answer(request, body, etag=tag, changed_at=None, since=self._clock.now())


def _encode(issuer: Issuer, form: CertificateForm) -> bytes:
    if form is CertificateForm.DER:
        return issuer.certificate_der
    root = () if issuer.root_der is None else (issuer.root_der,)
    chain = tuple(dict.fromkeys((*issuer.chain_der, *root)))  # an issuer that is a root stands once
    return encode_certificates(chain) if form is CertificateForm.PEM else encode_certs_only(chain)


handle_refusals(CertificatesResource.app, render)


def certificates_edge(resource: CertificatesResource) -> Edge:
    """CA certificates, over TLS and plain HTTP."""
    return Edge(
        name="ca-certificates",
        resource=resource.app.resource(),
        claims=lambda segments: segments[:1] == ("ca",) and len(segments) in (2, 3) and segments[-1] == "certificate",
        plain_http=True,
        lane=resource.remembered,
    )
