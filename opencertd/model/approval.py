"""Requests for certificates that somebody must decide about before anything is issued."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta

from opencertd.model.names import AltName


class ApprovalState(enum.Enum):
    """What became of a request. WAITING goes to each other state, APPROVED to ISSUED or EXPIRED; none comes back."""

    WAITING = "waiting"
    APPROVED = "approved"  # the requester has not come for the certificate yet
    REJECTED = "rejected"
    ISSUED = "issued"
    EXPIRED = "expired"  # nobody decided in time, or the requester did not come for what was approved


@dataclass(frozen=True)
class ApprovalRequest:
    """One request, and what was decided about it.

    `match`: SHA-256 (hex) over who asks for what with which key; the same request again has the same. None once the
    request is over, so that the same may be asked anew. `requester` and `decided_by` are `PROOF:ID`. `subject`: as
    the certificate would have it (RFC 4514). `key`: its kind, in words; `spki_sha256`: hex, of the key in the request.
    `validity`: how long it is asked to be good. `transaction`: under which the core issues, once. `until`: when the
    state that it is in ends: to wait, to be fetched, to be told.
    """

    id: str
    match: str | None
    profile: str
    protocol: str
    requester: str
    requester_label: str
    subject: str
    names: tuple[AltName, ...]
    spki_sha256: str
    key: str
    validity: timedelta | None
    transaction: str
    asked_at: datetime
    until: datetime
    state: ApprovalState = ApprovalState.WAITING
    decided_at: datetime | None = None
    decided_by: str | None = None
    reason: str | None = None
    certificate_id: int | None = None


@dataclass(frozen=True)
class Decision:
    """What somebody decides, and why: the requester is told the reason of a rejection. `by`: who, for the audit log."""

    approved: bool
    reason: str = ""
    by: str = "approval hook"
