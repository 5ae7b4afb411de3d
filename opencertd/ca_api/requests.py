"""Requests that wait for a decision, for those who may decide them from elsewhere. Knows no HTTP."""

from __future__ import annotations

from typing import Any

from opencertd.ca_api import messages
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.approvals import Approvals
from opencertd.issuance.authority import CertificateAuthority
from opencertd.model.approval import Decision
from opencertd.model.requester import Requester
from opencertd.tasks import Tasks

APPROVER = "approver"
MOST_REASON = 500


class RequestsServer:
    """Shows them and decides them for whoever has the role `approver`; nobody decides what they asked themselves."""

    def __init__(self, *, authority: CertificateAuthority, tasks: Tasks) -> None:
        self._authority = authority
        self._tasks = tasks

    async def waiting(self, requester: Requester, after: int, limit: int) -> dict[str, Any]:
        """A page of those that wait, oldest first, as JSON shows it. Raises UNAUTHORIZED."""
        return messages.build_requests(await self._approvals(requester).waiting(after, limit + 1), limit)

    async def decide(self, requester: Requester, request_id: str, reason: str, *, approved: bool) -> dict[str, Any]:
        """The request as it was decided. Goes on when the asker leaves.

        Raises UNAUTHORIZED, NOT_FOUND, CONFLICT when it does not wait, MALFORMED for a reason that cannot be told.
        """
        approvals = self._approvals(requester)
        if len(reason) > MOST_REASON or not reason.isprintable() or not (reason.strip() or approved):
            why = f"the reason of a rejection is needed; it has at most {MOST_REASON} printable characters"
            raise Refusal(RefusalKind.MALFORMED, why)
        found = await approvals.find(request_id)
        if found is not None and found.requester == f"{requester.proof.value}:{requester.id}":
            raise Refusal(RefusalKind.UNAUTHORIZED, "nobody decides about their own requests")
        decision = Decision(approved, reason.strip(), by=requester.label)
        return messages.build_request(await self._tasks.shield(approvals.decide(request_id, decision, requester)))

    def _approvals(self, requester: Requester) -> Approvals:
        if APPROVER not in requester.roles:
            raise Refusal(RefusalKind.UNAUTHORIZED, f"this needs the role {APPROVER!r}")
        if self._authority.approvals is None:
            raise Refusal(RefusalKind.NOT_FOUND, "nobody can approve here")
        return self._authority.approvals
