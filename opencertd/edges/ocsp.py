"""The OCSP server as settings have it."""

from __future__ import annotations

from typing import Any

from opencertd.clock import Clock
from opencertd.issuance.authority import CertificateAuthority
from opencertd.ocsp.admission import Admission
from opencertd.ocsp.inquiry import CheckInquiry
from opencertd.ocsp.responder import ResponderKeeper
from opencertd.ocsp.server import OcspServer
from opencertd.ocsp.store import StatusStore
from opencertd.settings.status import StatusSettings
from opencertd.web.client_trust import ClientTrust, client_anchors


def build_ocsp_server(
    settings: StatusSettings,
    authority: CertificateAuthority,
    *,
    store: StatusStore,
    keeper: ResponderKeeper,
    clock: Clock,
    reactor: Any,
    check: CheckInquiry | None = None,
) -> OcspServer:
    """For the issuers of `authority`. `check`: code of an application that says which requests are answered."""
    admission = Admission(
        trust=ClientTrust(lambda: client_anchors(authority.issuers)),
        recognise=authority.recognise,
        reactor=reactor,
        required=settings.require_signature,
        check=check,
    )
    return OcspServer(
        issuers=authority.issuers,
        store=store,
        keeper=keeper,
        clock=clock,
        reactor=reactor,
        terms=settings.terms(),
        admission=admission,
        most_octets=settings.prepared_mib << 20,
    )
