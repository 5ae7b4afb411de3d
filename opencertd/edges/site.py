"""Every edge a worker serves."""

from __future__ import annotations

from opencertd.ca_api import certificates, resource
from opencertd.ca_api.requests import RequestsServer
from opencertd.ca_api.server import CaApiServer
from opencertd.crl import resource as crl
from opencertd.edges.acme import build_acme_edge
from opencertd.edges.authentication import build_authenticator, build_manufacturers
from opencertd.edges.est import build_est_edge
from opencertd.edges.parts import Parts
from opencertd.ocsp import resource as ocsp
from opencertd.web.site import Edge


def build_edges(parts: Parts) -> tuple[Edge, ...]:
    """All edges, in the order in which a path is offered to them. Raises StartError."""
    settings, authority = parts.settings, parts.authority
    authenticator = build_authenticator(parts)
    first_enrolment = authenticator.admitting(build_manufacturers(parts))
    api = CaApiServer(
        authority=authority,
        clock=parts.clock,
        tasks=parts.tasks,
        revokers=frozenset(settings.access.revokers),
        client_certificate_may_enrol_any_name=settings.est.client_certificate_may_enrol_any_name,
    )
    requests = RequestsServer(authority=authority, tasks=parts.tasks)
    return (
        ocsp.edge(server=parts.status, clock=parts.clock),
        crl.edge(server=parts.crls, issuer_for=authority.issuer_for, clock=parts.clock),
        certificates.certificates_edge(certificates.CertificatesResource(server=api, clock=parts.clock)),
        resource.edge(resource.CaApiResource(server=api, requests=requests, authenticator=authenticator)),
        build_est_edge(
            settings.est, authority, tasks=parts.tasks, authenticator=first_enrolment, elsewhere=parts.elsewhere
        ),
        build_acme_edge(parts),
    )
