"""Requests that wait for a decision, in SQL: the same request is open once, and is decided once.

Which it is, is held by the unique `match_key`; a decision is one UPDATE of what waits, so that of two at once the
second finds it decided.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, delete, exists, func, select, update
from twisted.internet.defer import Deferred

from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.audit import approval_changed
from opencertd.model.approval import ApprovalRequest, ApprovalState, Decision
from opencertd.model.audit import AuditEvent
from opencertd.model.certificates import CertificateState
from opencertd.model.requester import Proof, Requester
from opencertd.store.audit import append
from opencertd.store.database import Database
from opencertd.store.schema import approvals, certificates
from opencertd.store.statements import Direct, execute, on_both

ROWS = 100
"""Rows in a batch of the clean-up."""

_RACES = 5
_ASKING = 0x61707076  # the first key of PostgreSQL's advisory locks on requesters: "appv" in ASCII
_C = approvals.c
_TIME = _C.until.type
_DAEMON = (Proof.DAEMON.value, Proof.DAEMON.value, Proof.DAEMON.value)

_BY_MATCH = select(approvals).where(_C.match_key == bindparam("match"))
_GLANCE = Direct(_BY_MATCH)
_HELD = _BY_MATCH.with_for_update()
_BY_ID = select(approvals).where(_C.id == bindparam("id"))
_WAIT = _C.state == ApprovalState.WAITING
_HOW_MANY = select(func.count()).where(
    _WAIT, _C.requester == bindparam("requester"), _C.until > bindparam("now", type_=_TIME)
)
_ONE_OF_REQUESTER = select(func.pg_advisory_xact_lock(_ASKING, func.hashtext(bindparam("requester"))))
_ADD = on_both(lambda insert: insert(approvals).on_conflict_do_nothing().returning(_C.position))
_DECIDE = (
    update(approvals).where(_C.id == bindparam("of_id"), _WAIT, _C.until > bindparam("now", type_=_TIME)).returning(*_C)
)
_SPEND = update(approvals).where(_C.id == bindparam("of_id"), _C.state == ApprovalState.APPROVED).returning(*_C)
_CAME_OF_IT = exists(
    select(certificates.c.id).where(
        certificates.c.transaction_key == _C.transaction_key, certificates.c.state == CertificateState.ISSUED
    )
)
# Whoever was killed between issuing and saying so has issued all the same.
_OVER = case(
    (_WAIT, ApprovalState.EXPIRED.value),
    ((_C.state == ApprovalState.APPROVED) & _CAME_OF_IT, ApprovalState.ISSUED.value),
    (_C.state == ApprovalState.APPROVED, ApprovalState.EXPIRED.value),
    else_=_C.state,
)
_END = (
    update(approvals)
    .where(_C.id == bindparam("of_id"), _C.match_key.isnot(None))
    .values(state=_OVER, match_key=None)
    .returning(*_C)
)
_ENDED = (
    select(approvals)
    .where(_C.match_key.isnot(None), _C.until < bindparam("now", type_=_TIME))
    .order_by(_C.until)
    .limit(ROWS)
    .with_for_update(skip_locked=True)
)
_OLD = select(_C.position).where(_C.match_key.is_(None), _C.until < bindparam("before", type_=_TIME)).limit(ROWS)
_FORGET = delete(approvals).where(_C.position.in_(_OLD))
_PAGE = select(approvals).where(_C.position > bindparam("after")).order_by(_C.position).limit(bindparam("most"))
_PAGE_WAITING = _PAGE.where(_WAIT, _C.until > bindparam("now", type_=_TIME))


class SqlApprovalStore:
    """The `ApprovalStore` over a `Database`, what an operator sees of it, and its clean-up."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def open_approval(self, match: str) -> Deferred[ApprovalRequest | None]:
        def find(connection: Connection) -> ApprovalRequest | None:
            row = _GLANCE.first(connection, match=match)
            return None if row is None else _request(row._asdict())

        return self._database.glance(find)

    def find(self, request_id: str) -> Deferred[ApprovalRequest | None]:
        def find(connection: Connection) -> ApprovalRequest | None:
            row = connection.execute(_BY_ID, {"id": request_id}).one_or_none()
            return None if row is None else _of(row)

        return self._database.read(find)

    def ask(self, wish: ApprovalRequest, most: int) -> Deferred[ApprovalRequest]:
        return self._database.write(lambda connection: self._ask(connection, wish, most))

    def decide(self, request_id: str, decision: Decision, by: Requester, until: datetime) -> Deferred[ApprovalRequest]:
        def decide(connection: Connection) -> ApprovalRequest:
            now = self._clock.now()
            values = {
                "state": ApprovalState.APPROVED if decision.approved else ApprovalState.REJECTED,
                "until": until,
                "decided_at": now,
                "decided_by": f"{by.proof.value}:{by.id}",
                "reason": decision.reason or None,
            }
            row = connection.execute(_DECIDE.values(values), {"of_id": request_id, "now": now}).one_or_none()
            if row is None:
                raise _undecidable(connection, request_id)
            said = _of(row)
            change = "approve" if decision.approved else "reject"
            append(connection, approval_changed(change, said, (by.proof.value, by.id, by.label), now))
            return said

        return self._database.write(decide)

    def spend(self, request_id: str, certificate_id: int, until: datetime) -> Deferred[None]:
        def spend(connection: Connection) -> None:
            values = {"state": ApprovalState.ISSUED, "certificate_id": certificate_id, "until": until}
            row = connection.execute(_SPEND.values(values), {"of_id": request_id}).one_or_none()
            if row is not None:
                said = _of(row)
                append(connection, approval_changed("issue", said, _who_asked(said), self._clock.now()))

        return self._database.write(spend)

    def waiting(self, after: int, limit: int) -> Deferred[tuple[tuple[int, ApprovalRequest], ...]]:
        return self._page(_PAGE_WAITING, after=after, most=limit, now=self._clock.now())

    def all(self, after: int, limit: int) -> Deferred[tuple[tuple[int, ApprovalRequest], ...]]:
        """As `waiting`, for all that are kept."""
        return self._page(_PAGE, after=after, most=limit)

    def expire(self, now: datetime) -> Deferred[bool]:
        """End a batch of those whose time is over; answers whether there may be more."""

        def expire(connection: Connection) -> bool:
            rows = connection.execute(_ENDED, {"now": now}).all()
            append(connection, *(event for row in rows for event in _end(connection, row.id, now)))
            return len(rows) == ROWS

        return self._database.write(expire)

    def forget(self, before: datetime) -> Deferred[bool]:
        """Remove a batch of those that were over before then; answers whether there may be more."""
        return self._database.write(lambda connection: connection.execute(_FORGET, {"before": before}).rowcount == ROWS)

    def _ask(self, connection: Connection, wish: ApprovalRequest, most: int) -> ApprovalRequest:
        ended: list[AuditEvent] = []
        if connection.dialect.name == "postgresql":
            connection.execute(_ONE_OF_REQUESTER, {"requester": wish.requester})
        for _ in range(_RACES):
            held = connection.execute(_HELD, {"match": wish.match}).one_or_none()
            if held is not None and held.until > wish.asked_at:
                return _of(held)
            if held is not None:
                ended += _end(connection, held.id, wish.asked_at)
            of_requester = {"requester": wish.requester, "now": wish.asked_at}
            if connection.execute(_HOW_MANY, of_requester).scalar_one() >= most:
                why = f"{most} requests of this requester wait for a decision already: wait for it, or ask for those"
                raise Refusal(RefusalKind.RATE_LIMITED, why, retry_after=600)
            if execute(connection, _ADD, _values(wish)).one_or_none() is not None:
                append(connection, *ended, approval_changed("ask", wish, _who_asked(wish), self._clock.now()))
                return wish
        raise Refusal(RefusalKind.UNAVAILABLE, "too many ask for the same at once", retry_after=1)

    def _page(self, query: Any, **asked: Any) -> Deferred[tuple[tuple[int, ApprovalRequest], ...]]:
        return self._database.read(
            lambda connection: tuple((row.position, _of(row)) for row in connection.execute(query, asked))
        )


def _end(connection: Connection, request_id: str, now: datetime) -> list[AuditEvent]:
    """The request is over, and may be made anew; what the audit chain is to say of it."""
    rows = connection.execute(_END, {"of_id": request_id}).all()
    return [approval_changed("expire", _of(row), _DAEMON, now) for row in rows if row.state is ApprovalState.EXPIRED]


def _undecidable(connection: Connection, request_id: str) -> Refusal:
    row = connection.execute(_BY_ID, {"id": request_id}).one_or_none()
    if row is None:
        return Refusal(RefusalKind.NOT_FOUND, f"there is no request {request_id[:80]!r}")
    if row.decided_at is None:
        return Refusal(RefusalKind.CONFLICT, f"the request {row.id} has expired: it must be made again")
    became = "rejected" if row.state is ApprovalState.REJECTED else "approved"
    when = row.decided_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Refusal(RefusalKind.CONFLICT, f"the request {row.id} was {became} by {row.decided_by} at {when}")


def _who_asked(request: ApprovalRequest) -> tuple[str, str, str]:
    proof, _, who = request.requester.partition(":")
    return proof, who, request.requester_label


def _values(request: ApprovalRequest) -> dict[str, Any]:
    values = dict(vars(request))
    values["match_key"], values["transaction_key"] = values.pop("match"), values.pop("transaction")
    values["validity"] = None if request.validity is None else int(request.validity.total_seconds())
    return values


def _of(row: Row[Any]) -> ApprovalRequest:
    return _request(dict(row._mapping))


def _request(values: dict[str, Any]) -> ApprovalRequest:
    del values["position"]
    values["match"], values["transaction"] = values.pop("match_key"), values.pop("transaction_key")
    if values["validity"] is not None:
        values["validity"] = timedelta(seconds=values["validity"])
    return ApprovalRequest(**values)
