"""From a CSR and somebody known to an issuance request: the same for every edge that enrols without a dialogue."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from datetime import timedelta

from cryptography import x509

from opencertd.asn1.pkcs10 import CertificationRequest
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.own_names import check_own_names, check_same_names
from opencertd.issuance.profiles import Profile
from opencertd.model.names import lower_ascii
from opencertd.model.request import IssuanceRequest, IssuedCertificate, IssuingProtocol, Transaction
from opencertd.model.requester import ANY_NAME, NameGrant, Proof, Requester

RETRY_WINDOW = timedelta(seconds=60)
"""How long the same request by the same requester is taken for a repetition; clients retry within seconds."""

DEFAULT_PROFILE = "default"


def client_profile(profiles: Mapping[str, Profile], name: str | None, protocol: IssuingProtocol) -> str:
    """The name of the profile a client names (None: the default one).

    Raises NOT_FOUND for one that is unknown, the daemon's own, or not for that protocol.
    """
    asked = DEFAULT_PROFILE if name is None else name
    profile = profiles.get(asked)
    if profile is None or not profile.public or protocol not in profile.protocols:
        raise Refusal(RefusalKind.NOT_FOUND, "there is no profile of that name")
    return asked


def build_enrolment(
    csr: CertificationRequest,
    profile: str,
    requester: Requester,
    *,
    protocol: IssuingProtocol,
    client_certificate_may_enrol_any_name: bool,
    validity: timedelta | None = None,
) -> IssuanceRequest:
    """The request for exactly what `csr` asks, under the rule of own names for TLS client certificates.

    Registration authorities are not bound by it: which names they may ask for, policy alone says.

    Raises Refusal REJECTED_NAME for names beyond the client certificate's own; the core checks other grants.
    """
    grant = requester.grant
    if requester.proof is Proof.TLS_CERTIFICATE:
        if client_certificate_may_enrol_any_name or requester.enrols_for_others:
            grant = ANY_NAME
        else:
            check_own_names(csr, proven_certificate(requester))
            grant = _exactly(csr)
    return _build(csr, profile, dataclasses.replace(requester, grant=grant), protocol, validity)


def build_renewal(
    csr: CertificationRequest, profile: str, requester: Requester, *, protocol: IssuingProtocol
) -> IssuanceRequest:
    """The request for a successor of the certificate that TLS proved, with the same or another key.

    Raises Refusal UNAUTHENTICATED without such a certificate, REJECTED_NAME when Subject or SubjectAltName differ.
    """
    check_same_names(csr, proven_certificate(requester))
    return _build(csr, profile, dataclasses.replace(requester, grant=_exactly(csr)), protocol, None)


def _exactly(csr: CertificationRequest) -> NameGrant:
    """A grant for what was compared with the client certificate: the names and the subject of `csr`, no more."""
    in_subject = frozenset(lower_ascii(str(attribute.value)) for attribute in csr.subject)
    return NameGrant(names=frozenset(csr.names), common_names=in_subject)


def _build(
    csr: CertificationRequest,
    profile: str,
    requester: Requester,
    protocol: IssuingProtocol,
    validity: timedelta | None,
) -> IssuanceRequest:
    return IssuanceRequest(
        spki_der=csr.spki_der,
        subject=csr.subject,
        names=csr.names,
        profile=profile,
        requester=requester,
        transaction=Transaction(_transaction_key(csr, profile, requester, validity), RETRY_WINDOW),
        protocol=protocol,
        validity=validity,
    )


def _transaction_key(csr: CertificationRequest, profile: str, requester: Requester, validity: timedelta | None) -> str:
    wish = "" if validity is None else str(validity)
    parts = (requester.proof.value.encode(), requester.id.encode(), profile.encode(), csr.der, wish.encode())
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)  # no two different tuples hash the same bytes
    return f"enrolment:{digest.hexdigest()}"


def proven_certificate(requester: Requester) -> x509.Certificate:
    """The certificate that TLS proved. Raises Refusal UNAUTHENTICATED when the requester has shown none."""
    if requester.proof is not Proof.TLS_CERTIFICATE or requester.certificate_der is None:
        raise Refusal(RefusalKind.UNAUTHENTICATED, "this needs a TLS client certificate issued by this CA")
    return x509.load_der_x509_certificate(requester.certificate_der)


def check_still_good(issued: IssuedCertificate) -> IssuedCertificate:
    """`issued`, unless it is the answer to an earlier copy of the request and was revoked since: CONFLICT."""
    if issued.record.revocation is not None:
        raise Refusal(
            RefusalKind.CONFLICT,
            "the certificate issued for this very request a moment ago has been revoked; use a new key",
        )
    return issued
