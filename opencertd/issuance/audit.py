"""Deeds of the core as audit events, built from the records that the deeds leave, so that the two cannot differ."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from opencertd.asn1 import der, dn, signed
from opencertd.errors import Refusal
from opencertd.model.approval import ApprovalRequest
from opencertd.model.audit import AuditEvent, Deed
from opencertd.model.certificates import CertificateRecord, HierarchyChange, IssuerRecord
from opencertd.model.request import IssuanceRequest, ReinstatementRequest, RevocationRequest
from opencertd.model.requester import Proof, Requester

_MOST_NAMES = 100
"""Names of a refused request that are written down: what is refused was checked by nobody."""


def tbs_sha256(signed_der: bytes) -> str | None:
    """SHA-256 (hex) of the to-be-signed bytes in a certificate or CRL; None when it is no signed object."""
    try:
        return hashlib.sha256(signed.tbs_of(signed_der)).hexdigest()
    except der.DerError:
        return None


def issued(record: CertificateRecord, at: datetime) -> AuditEvent:
    """The issuer's key signed this certificate, for the requester in its record."""
    proof, _, who = record.requester.partition(":")
    signed_der = record.certificate_der or b""
    return AuditEvent(
        Deed.ISSUE, proof, who, record.requester_label, at, _certificate(record), tbs_sha256=tbs_sha256(signed_der)
    )


def precertified(record: CertificateRecord, precertificate_der: bytes, at: datetime) -> AuditEvent:
    """The issuer's key signed a precertificate, which logs of Certificate Transparency may publish."""
    proof, _, who = record.requester.partition(":")
    return AuditEvent(
        Deed.SIGN_PRECERTIFICATE,
        proof,
        who,
        record.requester_label,
        at,
        _certificate(record),
        tbs_sha256=tbs_sha256(precertificate_der),
    )


def abandoned(record: CertificateRecord, tbs_der: bytes | None, why: str, at: datetime) -> AuditEvent:
    """An intent was given up; the key may have been used, and the certificate reached nobody."""
    proof, _, who = record.requester.partition(":")
    hashed = hashlib.sha256(tbs_der).hexdigest() if tbs_der is not None else None
    return AuditEvent(
        Deed.ABANDON,
        proof,
        who,
        record.requester_label,
        at,
        {**_certificate(record), "why": why},
        tbs_sha256=hashed,
    )


def revoked(record: CertificateRecord, by: Requester, at: datetime) -> AuditEvent:
    """A certificate's revocation was changed, to what the record says, by somebody who had the right to."""
    if record.revocation is None:
        return AuditEvent(Deed.REINSTATE, by.proof.value, by.id, by.label, at, _certificate(record))
    since = record.revocation.invalidity_date
    what = {
        **_certificate(record),
        "reason": record.revocation.reason.rfc_name,
        "invalidity_date": since.isoformat() if since else None,
    }
    return AuditEvent(Deed.REVOKE, by.proof.value, by.id, by.label, at, what)


def issuance_refused(request: IssuanceRequest, refusal: Refusal, at: datetime) -> AuditEvent:
    """A request for a certificate was refused."""
    by = request.requester
    what = {
        "profile": request.profile,
        "subject": dn.format_dn(request.subject),
        "names": [str(name) for name in request.names[:_MOST_NAMES]],
        "spki_sha256": hashlib.sha256(request.spki_der).hexdigest(),
        "why": refusal.detail,
    }
    return AuditEvent(Deed.ISSUE, by.proof.value, by.id, by.label, at, what, result=refusal.kind.value)


def revocation_refused(request: RevocationRequest, refusal: Refusal, at: datetime) -> AuditEvent:
    """A revocation was refused."""
    by = request.requester
    what = {
        "issuer": request.issuer_id,
        "serial": f"{request.serial:x}",
        "reason": request.reason.rfc_name,
        "why": refusal.detail,
    }
    return AuditEvent(Deed.REVOKE, by.proof.value, by.id, by.label, at, what, result=refusal.kind.value)


def reinstatement_refused(request: ReinstatementRequest, refusal: Refusal, at: datetime) -> AuditEvent:
    """The end of a hold was refused."""
    by = request.requester
    what = {"issuer": request.issuer_id, "serial": f"{request.serial:x}", "why": refusal.detail}
    return AuditEvent(Deed.REINSTATE, by.proof.value, by.id, by.label, at, what, result=refusal.kind.value)


def issuer_added(issuer: IssuerRecord, at: datetime) -> AuditEvent:
    """This CA has a new issuer."""
    what = {
        "issuer": issuer.id,
        "name": issuer.name,
        "role": issuer.role.value,
        "parent": issuer.parent_id,
        "certificate_sha256": hashlib.sha256(issuer.certificate_der).hexdigest(),
    }
    by = Proof.DAEMON.value
    return AuditEvent(Deed.ADD_ISSUER, by, by, by, at, what, tbs_sha256=tbs_sha256(issuer.certificate_der))


def hierarchy_changed(change: HierarchyChange, by: Requester, at: datetime, what: Mapping[str, str]) -> AuditEvent:
    """The issuers of this CA were changed by somebody."""
    said: dict[str, Any] = {"deed": change.deed, **what}
    if change.added:
        said["added"] = [f"{issuer.name} {issuer.id}" for issuer in change.added]
    if change.changed:
        said["changed"] = [_difference(before, after) for before, after in change.changed]
    if change.crossed:
        said["crossed"] = [hashlib.sha256(cross.certificate_der).hexdigest() for cross in change.crossed]
    if change.closed:
        said["closed"] = [hashlib.sha256(cross.certificate_der).hexdigest() for cross in change.closed]
    return AuditEvent(Deed.CHANGE_CA, by.proof.value, by.id, by.label, at, said)


def hierarchy_change_refused(
    deed: str, by: Requester, refusal: Refusal, at: datetime, what: Mapping[str, str]
) -> AuditEvent:
    """A change of this CA's issuers was asked for, and refused."""
    said = {"deed": deed, **what, "why": refusal.detail}
    return AuditEvent(Deed.CHANGE_CA, by.proof.value, by.id, by.label, at, said, result=refusal.kind.value)


def _difference(before: IssuerRecord, after: IssuerRecord) -> str:
    members = [
        ("state", before.state.value, after.state.value),
        ("key", before.key_reference, after.key_reference),
        ("published until", before.published_until, after.published_until),
        ("distrusted since", before.distrusted_at, after.distrusted_at),
    ]
    return "; ".join([f"{before.name} {before.id}", *(f"{m}: {a} -> {b}" for m, a, b in members if a != b)])


def key_moved(issuer_id: str, before: str, after: str, at: datetime) -> AuditEvent:
    """An issuer's key was moved, by who works on the CA's own machine."""
    by = Proof.DAEMON.value
    return AuditEvent(Deed.MOVE_KEY, by, by, by, at, {"issuer": issuer_id, "from": before, "to": after})


def crl_signed(issuer_id: str, number: int, crl_der: bytes, *, published: bool, at: datetime) -> AuditEvent:
    """The issuer's key signed a CRL; of several workers that do so at once, one has its CRL published."""
    what = {"issuer": issuer_id, "number": number, "published": published}
    by = Proof.DAEMON.value
    return AuditEvent(Deed.SIGN_CRL, by, by, by, at, what, tbs_sha256=tbs_sha256(crl_der))


def approval_changed(change: str, request: ApprovalRequest, by: tuple[str, str, str], at: datetime) -> AuditEvent:
    """A request that somebody decides about went on: `ask`, `approve`, `reject`, `issue`, `expire`.

    `by`: proof, id and label of who did it.
    """
    what: dict[str, Any] = {
        "change": change,
        "request": request.id,
        "requester": request.requester,
        "profile": request.profile,
        "subject": request.subject,
        "names": [str(name) for name in request.names],
        "spki_sha256": request.spki_sha256,
    }
    if change in {"approve", "reject"}:
        what["why"] = request.reason
    if request.certificate_id is not None:
        what["certificate"] = request.certificate_id
    return AuditEvent(Deed.APPROVAL, *by, at, what)


def _certificate(record: CertificateRecord) -> dict[str, Any]:
    return {
        "issuer": record.issuer_id,
        "serial": f"{record.serial:x}",
        "profile": record.profile,
        "subject": record.subject,
        "names": [str(name) for name in record.names],
        "worker": record.owner,
    }
