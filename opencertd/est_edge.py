"""The EST edge as `[est]` has it."""

from __future__ import annotations

from opencertd.est.messages import BodyForm
from opencertd.est.resource import EstResource, edge
from opencertd.est.server import EstServer
from opencertd.est_settings import EstSettings
from opencertd.issuance.authority import CertificateAuthority
from opencertd.tasks import Tasks
from opencertd.web.authentication import Authenticator
from opencertd.web.site import Edge


def build_est_edge(
    settings: EstSettings, *, authority: CertificateAuthority, tasks: Tasks, authenticator: Authenticator
) -> Edge:
    """EST for `authority`, wired; whoever asks is known by `authenticator`."""
    any_name = settings.client_certificate_may_enrol_any_name
    server = EstServer(authority=authority, tasks=tasks, client_certificate_may_enrol_any_name=any_name)
    resource = EstResource(
        server=server,
        authenticator=authenticator,
        body_form=BodyForm(settings.body),
        open_csrattrs=settings.csrattrs == "anonymous",
    )
    return edge(resource)
