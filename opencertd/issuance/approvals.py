"""Nothing is issued under a profile that wants a person's approval before somebody has approved just that request.

What is approved is who gets which subject and names for which key under which profile: whoever asks for anything else
makes another request. An approval is good for one certificate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from cryptography import x509
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from opencertd.asn1 import dn
from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.store import ApprovalStore
from opencertd.keys.kinds import SubjectKey, label_of
from opencertd.model.approval import ApprovalRequest, ApprovalState, Decision
from opencertd.model.certificates import CertificateRecord
from opencertd.model.request import IssuanceRequest, Window
from opencertd.model.requester import ANY_NAME, Proof, Requester

Decide: TypeAlias = Callable[[ApprovalRequest], Coroutine[Any, Any, Decision | None]]
"""Decides about a request that waits; None leaves it to others. Asked whenever the requester asks."""

TOLD_AGAIN = timedelta(hours=1)
"""How long the same request is answered by the certificate that came of it: answers get lost."""

_HOOK_SECONDS = 10.0
_MOST_TEXT = 16_384
_ID_BYTES = 5


@dataclass(frozen=True)
class ApprovalTerms:
    """`expires`: how long a request waits, and what was decided is good or told. `retry_after`: whole seconds.

    `most_waiting`: requests of one requester.
    """

    expires: timedelta = timedelta(days=7)
    retry_after: int = 60
    most_waiting: int = 10


class Approvals:
    """Finds out whether a request is approved. `decide`: code that decides before a person does, if it wants to."""

    _log = Logger()

    def __init__(
        self,
        store: ApprovalStore,
        *,
        clock: Clock,
        reactor: IReactorTime,
        random: Callable[[int], bytes],
        terms: ApprovalTerms = ApprovalTerms(),
        decide: Decide | None = None,
    ) -> None:
        self.terms = terms
        self._store = store
        self._clock = clock
        self._reactor = reactor
        self._random = random
        self._decide = decide

    async def granted(self, request: IssuanceRequest, subject: x509.Name, key: SubjectKey | None) -> ApprovalRequest:
        """The approval of a request, whose certificate would have that subject. `key`: None where it is yet to be made.

        Refusals: PENDING until somebody has decided, UNAUTHORIZED when it was rejected, RATE_LIMITED when too many
        requests of the requester wait, TOO_LARGE.
        """
        wish = self._wish(request, subject, key)
        found = await self._store.open_approval(wish.match or "")
        if found is None or found.until <= wish.asked_at:
            found = await self._store.ask(wish, self.terms.most_waiting)
            if found.id == wish.id:
                self._log.info(
                    "request {id} of {who} under {profile} waits for a decision: {subject} {names}",
                    id=found.id,
                    who=found.requester_label,
                    profile=found.profile,
                    subject=found.subject,
                    names=" ".join(map(str, found.names)),
                )
        if found.state is ApprovalState.WAITING and self._decide is not None:
            found = await self._decided(found, self._decide)
        if found.state is ApprovalState.WAITING:
            why = f"the request {found.id} waits for somebody to decide about it: ask again later"
            raise Refusal(RefusalKind.PENDING, why, retry_after=self.terms.retry_after)
        if found.state is ApprovalState.REJECTED:
            raise Refusal(RefusalKind.UNAUTHORIZED, f"the request {found.id} was rejected" + _because(found.reason))
        return found

    async def spend(self, approval: ApprovalRequest, request: IssuanceRequest, record: CertificateRecord) -> None:
        """The certificate of the approval is there; what is asked later than `TOLD_AGAIN` is another request."""
        if approval.state is not ApprovalState.APPROVED:
            return
        now = self._now()
        if request.applicant_spki_der is not None:  # its key is told once
            until = now
        elif _is_for_ever(request):
            until = record.not_after
        else:
            until = min(now + TOLD_AGAIN, now + (record.not_after - now) / 2)
        await self._store.spend(approval.id, record.id, until)

    async def waiting(self, after: int, limit: int) -> tuple[tuple[int, ApprovalRequest], ...]:
        """Those that wait, oldest first, each with its position: at most `limit` after that position."""
        return await self._store.waiting(after, limit)

    async def find(self, request_id: str) -> ApprovalRequest | None:
        """The request of that id, whatever became of it."""
        return await self._store.find(request_id)

    async def decide(self, request_id: str, decision: Decision, by: Requester) -> ApprovalRequest:
        """Somebody decides. Refusal NOT_FOUND, CONFLICT when it does not wait."""
        return await self._store.decide(request_id, decision, by, self._now() + self.terms.expires)

    def _wish(self, request: IssuanceRequest, subject: x509.Name, key: SubjectKey | None) -> ApprovalRequest:
        now = self._now()
        shown = dn.format_dn(subject)
        if len(shown) + sum(len(name.value) for name in request.names) > _MOST_TEXT:
            raise Refusal(RefusalKind.TOO_LARGE, "the names asked are too long for anybody to decide about")
        spki_der = request.applicant_spki_der or request.spki_der
        identity = self._random(_ID_BYTES).hex()
        by = request.requester
        lasting = request.transaction.key if request.transaction and _is_for_ever(request) else None
        return ApprovalRequest(
            id=identity,
            match=_match(request, subject, spki_der, lasting),
            profile=request.profile,
            protocol="" if request.protocol is None else request.protocol.value,
            requester=f"{by.proof.value}:{by.id}",
            requester_label=by.label,
            subject=shown,
            names=request.names,
            spki_sha256=hashlib.sha256(spki_der).hexdigest(),
            key="made by this CA" if key is None or request.applicant_spki_der is not None else label_of(key),
            validity=_length(request.validity, now),
            transaction=lasting or f"approval:{identity}",
            asked_at=now,
            until=now + self.terms.expires,
        )

    async def _decided(self, waiting: ApprovalRequest, decide: Decide) -> ApprovalRequest:
        """The request after the hook has seen it. Whatever goes wrong with the hook leaves it waiting."""
        try:
            asked: Deferred[Decision | None] = Deferred.fromCoroutine(decide(waiting))
            decision = await asked.addTimeout(_HOOK_SECONDS, self._reactor)
        except Exception:
            self._log.failure("the approval hook failed; request {id} waits for a person", id=waiting.id)
            return waiting
        if decision is None:
            return waiting
        by = Requester(Proof.DAEMON, decision.by, decision.by, ANY_NAME)
        try:
            return await self._store.decide(waiting.id, decision, by, self._now() + self.terms.expires)
        except Refusal as refusal:
            if refusal.kind is not RefusalKind.CONFLICT:
                raise
        # Somebody was faster: that counts.
        return await self._store.open_approval(waiting.match or "") or waiting

    def _now(self) -> datetime:
        return self._clock.now().replace(microsecond=0)


def _length(validity: timedelta | Window | None, now: datetime) -> timedelta | None:
    """How long it is asked to be good."""
    if not isinstance(validity, Window):
        return validity
    return None if validity.not_after is None else validity.not_after - (validity.not_before or now)


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""


def _is_for_ever(request: IssuanceRequest) -> bool:
    """Whether the request is one deed that is known by its transaction, such as an ACME order."""
    return request.transaction is not None and request.transaction.window is None


def _match(request: IssuanceRequest, subject: x509.Name, spki_der: bytes, lasting: str | None) -> str:
    by = request.requester
    parts = (
        by.proof.value.encode(),
        by.id.encode(),
        request.profile.encode(),
        spki_der,
        b"made" if request.applicant_spki_der is not None else b"brought",
        subject.public_bytes(),
        *(f"{name.kind.value}:{name.value}".encode() for name in request.names),
        str(request.validity).encode(),
        (lasting or "").encode(),
    )
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)  # no two different tuples hash the same bytes
    return digest.hexdigest()
