"""What the core keeps: issuers, certificates (from intent to expiry) and revocations."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

from twisted.internet.defer import Deferred

from opencertd.issuance.along import Along
from opencertd.model.approval import ApprovalRequest, Decision
from opencertd.model.audit import AuditEvent
from opencertd.model.certificates import (
    CertificateIntent,
    CertificateRecord,
    Hierarchy,
    HierarchyChange,
    IssuerRecord,
    Revocation,
    RevocationChange,
)
from opencertd.model.requester import Requester


class HierarchyStore(Protocol):
    """The issuers of a CA and what changes about them. Every method is one durable transaction."""

    def hierarchy(self) -> Deferred[Hierarchy]:
        """What there is now. Cheap enough to be asked every second."""

    def last_expiry(self, issuer_id: str) -> Deferred[datetime | None]:
        """When the last certificate expires that the issuer signed for others than this CA's issuers and responders.

        None: there is none.
        """

    def change(self, change: HierarchyChange, by: Requester, **what: str) -> Deferred[None]:
        """Do the whole of `change` and append it to the audit chain with `what` said of it, or do nothing.

        Refusal CONFLICT when a new id, name or certificate is taken, or when an issuer or a cross-certificate is not
        (any more) as the change takes it to be.
        """


class CertificateStore(Protocol):
    """Every method is one durable transaction. Times are aware UTC, kept to whole seconds.

    `add_issuers`, `complete`, `note`, `abandon`, `abandon_intents`, `revoke` and `release`, and `reserve` when it
    abandons, append what they did to the audit chain in the same transaction; when that cannot be done, nothing is
    (Refusal UNAVAILABLE).
    """

    def issuers(self) -> Deferred[tuple[IssuerRecord, ...]]:
        """All issuers, in the order in which they were added."""

    def add_issuers(self, issuers: tuple[IssuerRecord, ...]) -> Deferred[None]:
        """Keep new issuers, all or none. Refusal CONFLICT when an id or a name is taken."""

    def move_key(self, issuer_id: str, before: str, after: str) -> Deferred[None]:
        """The issuer's key is elsewhere now. Refusal CONFLICT when its reference is not `before`."""

    def reserve(
        self,
        intent: CertificateIntent,
        window: timedelta | None,
        stale_before: datetime,
        *,
        unless_compromised: bool = False,
        along: Along | None = None,
    ) -> Deferred[CertificateRecord]:
        """Write the intent down, after what is to `begin` along with it; answers the new record in state INTENDED.

        When `intent.transaction` is given and a record with that key exists that is not abandoned: answers that
        record instead (the caller tells by `owner`, `serial` or `state`), except that a record still INTENDED since
        before `stale_before` is abandoned first, and one ISSUED longer than `window` before `intent.intended_at`
        (never, when `window` is None) gives the key up. Refusal CONFLICT when the issuer has used the serial, and
        BAD_PUBLIC_KEY for a key of which `is_compromised` is true, `unless_compromised`.

        For an enrolment password the new record counts as one of its uses until it is abandoned. Refusals
        UNAUTHENTICATED when there are no more, CONFLICT while others that are not issued yet have them all.
        """

    def complete(
        self, record_id: int, certificate_der: bytes, issued_at: datetime, along: Along | None = None
    ) -> Deferred[CertificateRecord]:
        """INTENDED → ISSUED, and what is to `end` along with it. Refusal CONFLICT when it is not INTENDED any more."""

    def note(self, intent: CertificateIntent, certificate_der: bytes) -> Deferred[None]:
        """A certificate that is there already is in the inventory as ISSUED, as `intent` describes it.

        It was not known, or its record was left INTENDED or ABANDONED by whoever was killed; else nothing changes.
        """

    def abandon(self, record_id: int, why: str = "given up") -> Deferred[None]:
        """INTENDED → ABANDONED, giving its transaction key up; nothing when it is not INTENDED."""

    def abandon_intents(self, *, owner: str | None, before: datetime | None) -> Deferred[int]:
        """Abandon all intents of `owner` (None: anybody's) written before `before` (None: ever); answers how many."""

    def by_serial(self, serial: int, issuer_id: str | None = None) -> Deferred[tuple[CertificateRecord, ...]]:
        """The ISSUED certificates with that serial, of that issuer or of all."""

    def by_id(self, record_id: int) -> Deferred[CertificateRecord | None]:
        """The record, in whatever state."""

    def by_transaction(self, key: str) -> Deferred[CertificateRecord | None]:
        """The record that holds this transaction key."""

    def revoke(
        self,
        issuer_id: str,
        serial: int,
        revocation: Revocation,
        by: Requester,
        *,
        replaces: Revocation | None = None,
    ) -> Deferred[CertificateRecord]:
        """Put `revocation` in the place of `replaces` (None: the certificate is good) by compare-and-swap.

        In the same transaction add to the history that `by` asked for it, and owe a job of kind `crl` with the
        issuer's id as its key, due now. Refusal NOT_FOUND when that issuer issued no such certificate; when its
        revocation is not `replaces`: ALREADY_REVOKED, or CONFLICT if it is good.
        """

    def release(self, issuer_id: str, serial: int, held: Revocation, by: Requester) -> Deferred[CertificateRecord]:
        """End the hold `held`, so that the certificate is good again. Otherwise as `revoke`."""

    def revocation_history(self, record_id: int) -> Deferred[tuple[RevocationChange, ...]]:
        """Every change of the certificate's revocation, oldest first."""

    def is_compromised(self, spki_sha256: str) -> Deferred[bool]:
        """Whether any certificate with this key, whatever became of it since, was revoked for keyCompromise.

        `spki_sha256`: of the SubjectPublicKeyInfo, in lower-case hexadecimal, as in intents.
        """

    def record(self, event: AuditEvent) -> Deferred[None]:
        """Append to the audit chain what has no other transaction: a refusal. Refusal UNAVAILABLE when it cannot."""

    def inventory(self, after_id: int, limit: int) -> Deferred[tuple[CertificateRecord, ...]]:
        """ISSUED certificates with an id above `after_id`, in order of id, at most `limit`."""

    def secret(self, name: str, proposal: bytes) -> Deferred[bytes]:
        """The shared secret of that name; the first to ask sets it to `proposal`. For MAC keys, never private keys."""


class ApprovalStore(Protocol):
    """Requests that wait for a decision. Every change is one durable transaction, with its entry in the audit chain."""

    def open_approval(self, match: str) -> Deferred[ApprovalRequest | None]:
        """The request of that `match` that is not over; its `until` may have passed."""

    def ask(self, wish: ApprovalRequest, most: int) -> Deferred[ApprovalRequest]:
        """Keep `wish`, unless one of the same `match` is open: then that is answered.

        One whose `until` is not after `wish.asked_at` is over. Refusal RATE_LIMITED when `most` requests of that
        requester wait already.
        """

    def decide(self, request_id: str, decision: Decision, by: Requester, until: datetime) -> Deferred[ApprovalRequest]:
        """WAITING → APPROVED or REJECTED, good until then. Refusal NOT_FOUND, CONFLICT when it does not wait."""

    def waiting(self, after: int, limit: int) -> Deferred[tuple[tuple[int, ApprovalRequest], ...]]:
        """Those that wait, oldest first, each with its position: at most `limit` of those after that position."""

    def find(self, request_id: str) -> Deferred[ApprovalRequest | None]:
        """The request of that id, whatever became of it."""

    def spend(self, request_id: str, certificate_id: int, until: datetime) -> Deferred[None]:
        """APPROVED → ISSUED, told again until then; nothing when it is in another state."""
