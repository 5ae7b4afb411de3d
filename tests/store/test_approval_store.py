"""A request is open once and decided once, whoever asks and decides at the same time; and it does not wait for ever."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, DeferredList

from opencertd.clock import FixedClock
from opencertd.errors import Refusal, RefusalKind
from opencertd.model.approval import ApprovalRequest, ApprovalState, Decision
from opencertd.model.audit import AuditEntry
from opencertd.model.requester import ANY_NAME, Proof, Requester
from opencertd.store.approvals import ROWS, SqlApprovalStore
from opencertd.store.audit import SqlAuditStore
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from tests.store.values import ISSUER, NOW, ROOT, SECOND, dns, issue, refused

ensure = pytest_twisted.ensureDeferred
DAY = timedelta(days=1)
WEEK = 7 * DAY
OPERATOR = Requester(Proof.OPERATOR, "root", "Root", ANY_NAME)
OTHER_OPERATOR = Requester(Proof.OPERATOR, "eve", "Eve", ANY_NAME)
YES = Decision(approved=True, reason="known")
NO = Decision(approved=False, reason="not ours")


@pytest.fixture
def store(database: Database, clock: FixedClock) -> SqlApprovalStore:
    return SqlApprovalStore(database, clock)


def wish(number: int = 1, **changes: Any) -> ApprovalRequest:
    values: dict[str, Any] = {
        "id": f"r{number}",
        "match": f"m{number}",
        "profile": "cameras",
        "protocol": "est",
        "requester": "password:ann",
        "requester_label": "Ann",
        "subject": "CN=cam é",
        "names": (dns("cam.example"),),
        "spki_sha256": "ab" * 32,
        "key": "EC P-256",
        "validity": timedelta(hours=12),
        "transaction": f"approval:r{number}",
        "asked_at": NOW,
        "until": NOW + WEEK,
    }
    return ApprovalRequest(**{**values, **changes})


async def deeds(database: Database, clock: FixedClock) -> list[tuple[str, str, str]]:
    """What the audit chain says of requests: the change, who, and which request."""
    entries = await SqlAuditStore(database, clock).page(None, 1000)
    return [_told(entry) for entry in entries if entry.deed == "approval"]


def _told(entry: AuditEntry) -> tuple[str, str, str]:
    what = json.loads(entry.what)
    return what["change"], f"{entry.proof}:{entry.who}", what["request"]


def only(page: Sequence[tuple[int, ApprovalRequest]]) -> ApprovalRequest:
    ((_, request),) = page
    return request


@ensure
async def test_a_request_is_kept_and_read_as_it_was(store: SqlApprovalStore) -> None:
    assert await store.ask(wish(), 10) == wish()
    assert await store.open_approval("m1") == wish()
    assert await store.open_approval("m2") is None
    assert only(await store.waiting(0, 10)) == wish()
    bare = wish(2, validity=None, subject="", names=())
    assert await store.ask(bare, 10) == bare
    assert await store.open_approval("m2") == bare


@ensure
async def test_the_same_request_again_is_the_one_that_is_open(
    store: SqlApprovalStore, database: Database, clock: FixedClock
) -> None:
    await store.ask(wish(), 10)
    again = wish(2, match="m1", asked_at=NOW + DAY, until=NOW + 8 * DAY)
    assert await store.ask(again, 10) == wish()
    assert len(await store.all(0, 10)) == 1
    assert await deeds(database, clock) == [("ask", "password:ann", "r1")]


@ensure
async def test_of_many_that_ask_the_same_at_once_one_request_comes(
    store: SqlApprovalStore, database: Database, clock: FixedClock
) -> None:
    asked: list[Deferred[ApprovalRequest]] = [store.ask(wish(n, match="m"), 10) for n in range(20)]
    answers = await DeferredList(asked, fireOnOneErrback=True)
    assert len({request.id for _, request in answers}) == 1
    assert len(await deeds(database, clock)) == 1


@ensure
async def test_no_requester_fills_the_desk(store: SqlApprovalStore) -> None:
    asked = DeferredList([store.ask(wish(n), 3) for n in range(12)], consumeErrors=True)
    outcomes = Counter(kept for kept, _ in await asked)
    assert outcomes == {True: 3, False: 9}
    refusal = await refused(store.ask(wish(99), 3))
    assert refusal.kind is RefusalKind.RATE_LIMITED and refusal.retry_after
    waiting = [request for _, request in await store.waiting(0, 99)]
    assert await store.ask(dataclasses.replace(waiting[0], id="again"), 3) == waiting[0], "asking again costs nothing"
    await store.ask(wish(100, requester="password:bob"), 3)
    await store.decide(waiting[0].id, NO, OPERATOR, NOW + WEEK)
    await store.ask(wish(101), 3)
    assert (await refused(store.ask(wish(102), 3))).kind is RefusalKind.RATE_LIMITED
    late = {"asked_at": NOW + WEEK, "until": NOW + 2 * WEEK}
    await store.ask(wish(103, **late), 3)


@pytest.mark.parametrize(("decision", "state"), [(YES, ApprovalState.APPROVED), (NO, ApprovalState.REJECTED)])
@ensure
async def test_a_decision_says_who_when_and_why(
    store: SqlApprovalStore, database: Database, clock: FixedClock, decision: Decision, state: ApprovalState
) -> None:
    await store.ask(wish(), 10)
    clock.advance(DAY)
    decided = await store.decide("r1", decision, OPERATOR, NOW + 2 * WEEK)
    assert decided == dataclasses.replace(
        wish(),
        state=state,
        until=NOW + 2 * WEEK,
        decided_at=NOW + DAY,
        decided_by="operator:root",
        reason=decision.reason,
    )
    assert await store.open_approval("m1") == decided
    assert await store.waiting(0, 10) == ()
    assert only(await store.all(0, 10)) == decided
    word = "approve" if decision.approved else "reject"
    assert (await deeds(database, clock))[1:] == [(word, "operator:root", "r1")]


@ensure
async def test_of_two_operators_the_first_decides(
    store: SqlApprovalStore, database: Database, clock: FixedClock
) -> None:
    for number in range(10):
        await store.ask(wish(number), 99)
    decisions = [
        store.decide(f"r{number}", decision, by, NOW + WEEK)
        for number in range(10)
        for decision, by in ((YES, OPERATOR), (NO, OTHER_OPERATOR))
    ]
    outcomes = await DeferredList(decisions, consumeErrors=True)
    assert Counter(done for done, _ in outcomes) == {True: 10, False: 10}
    lost = [failure.value for done, failure in outcomes if not done]
    assert all(isinstance(one, Refusal) and one.kind is RefusalKind.CONFLICT for one in lost)
    assert "by operator:" in str(lost[0]) and "2026-06-01T12:00:00Z" in str(lost[0])
    decided = [told for told in await deeds(database, clock) if told[0] != "ask"]
    assert len({request for _, _, request in decided}) == len(decided) == 10


@ensure
async def test_what_is_not_there_or_over_cannot_be_decided(store: SqlApprovalStore, clock: FixedClock) -> None:
    assert (await refused(store.decide("r1", YES, OPERATOR, NOW))).kind is RefusalKind.NOT_FOUND
    await store.ask(wish(), 10)
    clock.advance(WEEK)
    assert await store.waiting(0, 10) == ()
    refusal = await refused(store.decide("r1", YES, OPERATOR, NOW + 2 * WEEK))
    assert (refusal.kind, refusal.detail) == (
        RefusalKind.CONFLICT,
        "the request r1 has expired: it must be made again",
    )


@ensure
async def test_what_has_expired_makes_room_for_the_same_request(
    store: SqlApprovalStore, database: Database, clock: FixedClock
) -> None:
    await store.ask(wish(), 10)
    clock.advance(WEEK)
    anew = wish(2, match="m1", asked_at=NOW + WEEK, until=NOW + 2 * WEEK)
    assert await store.ask(anew, 1) == anew
    assert await store.open_approval("m1") == anew
    states = [request.state for _, request in await store.all(0, 10)]
    assert states == [ApprovalState.EXPIRED, ApprovalState.WAITING]
    assert (await deeds(database, clock))[1:] == [("expire", "daemon:daemon", "r1"), ("ask", "password:ann", "r2")]


@ensure
async def test_an_approval_is_spent_once(store: SqlApprovalStore, database: Database, clock: FixedClock) -> None:
    record = await issued(database, clock, "approval:r1")
    await store.ask(wish(), 10)
    await store.spend("r1", record, NOW + DAY)
    assert (await store.open_approval("m1")) == wish(), "nobody has approved it"
    await store.decide("r1", YES, OPERATOR, NOW + WEEK)
    for hours in (1, 2):
        await store.spend("r1", record, NOW + timedelta(hours=hours))
    found = await store.open_approval("m1")
    assert found is not None
    assert (found.state, found.certificate_id, found.until) == (
        ApprovalState.ISSUED,
        record,
        NOW + timedelta(hours=1),
    )
    assert (await deeds(database, clock))[2:] == [("issue", "password:ann", "r1")]


async def issued(database: Database, clock: FixedClock, transaction: str) -> int:
    certificates = SqlCertificateStore(database, clock)
    await certificates.add_issuers((ROOT, ISSUER))
    return (await issue(certificates, 1, transaction=transaction)).id


@ensure
async def test_the_clean_up_ends_what_nobody_decided_and_forgets_it_later(
    store: SqlApprovalStore, database: Database, clock: FixedClock
) -> None:
    for number in range(1, 4):
        await store.ask(wish(number), 10)
    await store.decide("r2", YES, OPERATOR, NOW + WEEK)
    await store.decide("r3", NO, OPERATOR, NOW + WEEK)
    assert await store.expire(NOW + WEEK) is False
    assert len(await store.waiting(0, 10)) == 1, "its last second is not over"
    assert await store.expire(NOW + WEEK + SECOND) is False
    states = [(request.id, request.state, request.match) for _, request in await store.all(0, 10)]
    expired, rejected = ApprovalState.EXPIRED, ApprovalState.REJECTED
    assert states == [("r1", expired, None), ("r2", expired, None), ("r3", rejected, None)]
    told = (await deeds(database, clock))[5:]
    assert sorted(told) == [("expire", "daemon:daemon", "r1"), ("expire", "daemon:daemon", "r2")]
    await store.ask(wish(4), 10)
    assert await store.forget(NOW + WEEK) is False
    assert len(await store.all(0, 10)) == 4
    assert await store.forget(NOW + WEEK + SECOND) is False
    assert only(await store.all(0, 10)).id == "r4"
    assert await store.forget(NOW + 1000 * DAY) is False
    assert only(await store.all(0, 10)).id == "r4", "what is open is not forgotten"


@ensure
async def test_an_approval_whose_certificate_came_has_not_expired(
    store: SqlApprovalStore, database: Database, clock: FixedClock
) -> None:
    """Whoever issued was killed before it could say so."""
    await issued(database, clock, "approval:r1")
    await store.ask(wish(), 10)
    await store.decide("r1", YES, OPERATOR, NOW + WEEK)
    await store.expire(NOW + WEEK + SECOND)
    assert only(await store.all(0, 10)).state is ApprovalState.ISSUED
    assert [change for change, _, _ in await deeds(database, clock)] == ["ask", "approve"]


@ensure
async def test_the_clean_up_works_in_batches(store: SqlApprovalStore) -> None:
    for number in range(ROWS + 1):
        await store.ask(wish(number), ROWS + 1)
    late = NOW + WEEK + SECOND
    assert [await store.expire(late), await store.expire(late)] == [True, False]
    assert [await store.forget(late), await store.forget(late)] == [True, False]
    assert await store.all(0, 10) == ()


@ensure
async def test_pages_go_on_where_the_last_one_ended(store: SqlApprovalStore) -> None:
    for number in range(5):
        await store.ask(wish(number), 10)
    first = await store.waiting(0, 3)
    second = await store.waiting(first[-1][0], 3)
    assert [request.id for _, request in (*first, *second)] == ["r0", "r1", "r2", "r3", "r4"]
    assert await store.waiting(second[-1][0], 3) == ()
