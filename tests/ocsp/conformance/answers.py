"""Answers of a responder, and what the checks look at in them."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from cryptography import x509
from cryptography.x509 import ocsp as peer

from opencertd.asn1 import der
from opencertd.first_start import run_now
from opencertd.issuance.shipped import responder_profile
from opencertd.model.requester import Proof
from opencertd.ocsp.resource import edge
from opencertd.ocsp.terms import OcspTerms
from tests.ca import make_ca, make_issuers, request, requester
from tests.ocsp.browser import Browser
from tests.ocsp.rig import Rig, build_cert_id

NONCE = b"0123456789abcdef0123456789abcdef"
Status = peer.OCSPResponseStatus
GOOD, REVOKED, UNKNOWN = peer.OCSPCertStatus.GOOD, peer.OCSPCertStatus.REVOKED, peer.OCSPCertStatus.UNKNOWN
EXTENDED_REVOKE = x509.ObjectIdentifier("1.3.6.1.5.5.7.48.1.9")
ARCHIVE_CUTOFF = x509.ObjectIdentifier("1.3.6.1.5.5.7.48.1.6")
POST = {"Content-Type": "application/ocsp-request"}


async def answered(rig: Rig, request: bytes) -> peer.OCSPResponse:
    return peer.load_der_ocsp_response((await rig.server.answer(request)).body)


def extended() -> Rig:
    """Calls revoked what was never issued."""
    return Rig(terms=OcspTerms(extended_revoke=True))


def archiving() -> Rig:
    return Rig(terms=OcspTerms(archive=timedelta(days=365)))


def browser(rig: Rig) -> Browser:
    return Browser(edge(server=rig.server, clock=rig.clock))


def path(rig: Rig, *serials: int, **options: Any) -> str:
    """Of a GET."""
    return f"/ca/ocsp/{quote(base64.b64encode(rig.request(*serials, **options)), safe='')}"


def extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    flag = der.boolean(True) if critical else b""
    return der.sequence(der.oid(oid), flag, der.octet_string(value))


def request_with(rig: Rig, *, single: bytes = b"", whole: bytes = b"", name: bytes = b"") -> bytes:
    """About certificate 1, with these extensions, and a requestorName."""
    of_one = der.explicit(0, der.sequence(single)) if single else b""
    of_all = der.explicit(2, der.sequence(whole)) if whole else b""
    requests = der.sequence(der.sequence(build_cert_id(rig.pki.ecdsa.issuer, 1), of_one))
    return der.sequence(der.sequence(name, requests, of_all))


def times(response: peer.OCSPResponse, body: bytes) -> list[bytes]:
    """Every GeneralizedTime in the signed part, as it is written."""
    tbs = response.tbs_response_bytes
    assert tbs in body
    found = []
    at = tbs.find(b"\x18\x0f")
    while at >= 0:
        found.append(tbs[at + 2 : at + 17])
        at = tbs.find(b"\x18\x0f", at + 17)
    return found


def own_responder() -> tuple[x509.Certificate, x509.Certificate]:
    """A responder's certificate as the CA makes it for itself, and its issuer's."""
    ca = make_ca()
    wish = request(profile=responder_profile("ecdsa").name, requester=requester(proof=Proof.DAEMON), names=())
    issued = run_now(ca.authority.issue(wish))
    certificate = x509.load_der_x509_certificate(issued.certificate_der)
    (issuer,) = (each.certificate for each in make_issuers().all() if each.certificate.subject == certificate.issuer)
    return certificate, issuer


def own_leaf() -> x509.Certificate:
    """A certificate that the CA issues to others."""
    return x509.load_der_x509_certificate(run_now(make_ca().authority.issue(request())).certificate_der)
