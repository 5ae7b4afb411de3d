"""An intent as a row of the table of certificates, and that row as a record."""

from __future__ import annotations

from typing import Any

from opencertd.model.certificates import CertificateIntent, CertificateRecord, CertificateState


def intent_row(intent: CertificateIntent) -> dict[str, Any]:
    """The columns of an intent."""
    return {
        "issuer_id": intent.issuer_id,
        "serial": intent.serial,
        "state": CertificateState.INTENDED,
        "transaction_key": intent.transaction,
        "profile": intent.profile,
        "requester": intent.requester,
        "requester_label": intent.requester_label,
        "subject": intent.subject,
        "names": intent.names,
        "spki_sha256": intent.spki_sha256,
        "not_before": intent.not_before,
        "not_after": intent.not_after,
        "owner": intent.owner,
        "intended_at": intent.intended_at,
        "tbs_der": intent.tbs_der,
    }


def intended(record_id: int, intent: CertificateIntent) -> CertificateRecord:
    """The record as it would be read back."""
    return CertificateRecord(
        id=record_id,
        issuer_id=intent.issuer_id,
        serial=intent.serial,
        state=CertificateState.INTENDED,
        profile=intent.profile,
        requester=intent.requester,
        requester_label=intent.requester_label,
        subject=intent.subject,
        names=intent.names,
        not_before=intent.not_before,
        not_after=intent.not_after,
        owner=intent.owner,
        intended_at=intent.intended_at,
        certificate_der=None,
        revocation=None,
    )
