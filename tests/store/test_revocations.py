"""The contract of holds, releases and reasons that change, over every database; and under races."""

from __future__ import annotations

import dataclasses
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred, DeferredList

from opencertd.asn1.crl import encode_entry
from opencertd.clock import FixedClock
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.revocation import reinstate, revoke
from opencertd.model.certificates import (
    CertificateRecord,
    Revocation,
    RevocationChange,
    RevocationReason,
    RevocationState,
)
from opencertd.model.crl_parts import ALL
from opencertd.model.request import ReinstatementRequest, RevocationRequest
from opencertd.model.requester import ANY_NAME, Proof, Requester
from opencertd.ocsp.store import CertificateStatus, RevokedSince
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.crls import SqlCrlStore
from opencertd.store.database import Database
from opencertd.store.jobs import SqlJobStore
from opencertd.store.status import SqlStatusStore
from tests.store.values import ANN, COMPROMISED, ISSUER, NOW, OTHER, ROOT, SECOND, issue, refusal_kind

ensure = pytest_twisted.ensureDeferred
OP = dataclasses.replace(ANN, id="op", label="Op")
HELD = Revocation(NOW, RevocationReason.CERTIFICATE_HOLD)
DOUBTED = Revocation(NOW, RevocationReason.CERTIFICATE_HOLD, NOW - timedelta(days=9))
FINAL = Revocation(NOW, RevocationReason.SUPERSEDED, NOW - timedelta(days=9))


@pytest_twisted.async_fixture
async def store(database: Database, clock: FixedClock) -> SqlCertificateStore:
    opened = SqlCertificateStore(database, clock)
    await opened.add_issuers((ROOT, ISSUER, OTHER))
    return opened


@ensure
async def test_hold_release_hold_and_final_are_kept_step_by_step(store: SqlCertificateStore, clock: FixedClock) -> None:
    issued = await issue(store, 5)
    expected = []
    steps = (
        (RevocationState.HELD, DOUBTED, lambda: store.revoke(ISSUER.id, 5, DOUBTED, ANN)),
        (RevocationState.RELEASED, DOUBTED, lambda: store.release(ISSUER.id, 5, DOUBTED, OP)),
        (RevocationState.HELD, HELD, lambda: store.revoke(ISSUER.id, 5, HELD, ANN)),
        (RevocationState.REVOKED, FINAL, lambda: store.revoke(ISSUER.id, 5, FINAL, OP, replaces=HELD)),
        (RevocationState.REVOKED, COMPROMISED, lambda: store.revoke(ISSUER.id, 5, COMPROMISED, ANN, replaces=FINAL)),
    )
    for state, revocation, deed in steps:
        clock.advance(timedelta(milliseconds=1500))
        record = await deed()
        now = None if state is RevocationState.RELEASED else revocation
        assert record == dataclasses.replace(issued, revocation=now)
        assert await store.by_id(issued.id) == record
        assert await store.by_serial(5) == (record,)
        expected.append((state, clock.now(), revocation))
    history = await store.revocation_history(issued.id)
    assert [(change.state, change.changed_at, change.revocation) for change in history] == expected
    assert [change.by for change in history] == ["Ann", "Op", "Ann", "Op", "Ann"]
    assert await store.revocation_history(77) == ()


@ensure
async def test_only_what_is_expected_is_replaced(store: SqlCertificateStore) -> None:
    issued = await issue(store, 5)
    assert await refusal_kind(store.release(ISSUER.id, 5, HELD, ANN)) is RefusalKind.CONFLICT
    assert await refusal_kind(store.revoke(ISSUER.id, 5, FINAL, ANN, replaces=HELD)) is RefusalKind.CONFLICT
    assert await refusal_kind(store.release(OTHER.id, 5, HELD, ANN)) is RefusalKind.NOT_FOUND
    await store.revoke(ISSUER.id, 5, HELD, ANN)
    for other in (DOUBTED, COMPROMISED, dataclasses.replace(HELD, revoked_at=NOW + SECOND)):
        assert await refusal_kind(store.release(ISSUER.id, 5, other, ANN)) is RefusalKind.ALREADY_REVOKED
        taken = store.revoke(ISSUER.id, 5, FINAL, ANN, replaces=other)
        assert await refusal_kind(taken) is RefusalKind.ALREADY_REVOKED
    assert await refusal_kind(store.revoke(ISSUER.id, 5, FINAL, ANN)) is RefusalKind.ALREADY_REVOKED
    assert len(await store.revocation_history(issued.id)) == 1
    await store.release(ISSUER.id, 5, HELD, ANN)
    assert await refusal_kind(store.release(ISSUER.id, 5, HELD, ANN)) is RefusalKind.CONFLICT
    await store.revoke(ISSUER.id, 5, FINAL, ANN)
    other = dataclasses.replace(FINAL, reason=RevocationReason.PRIVILEGE_WITHDRAWN)
    corrected = store.revoke(ISSUER.id, 5, COMPROMISED, ANN, replaces=other)
    assert await refusal_kind(corrected) is RefusalKind.ALREADY_REVOKED


@ensure
async def test_every_change_owes_a_crl(store: SqlCertificateStore, database: Database, clock: FixedClock) -> None:
    await issue(store, 5)
    jobs = SqlJobStore(database, clock)
    for deed in (
        lambda: store.revoke(ISSUER.id, 5, HELD, ANN),
        lambda: store.release(ISSUER.id, 5, HELD, ANN),
        lambda: store.revoke(ISSUER.id, 5, HELD, ANN),
        lambda: store.revoke(ISSUER.id, 5, FINAL, ANN, replaces=HELD),
    ):
        await deed()
        (job,) = await jobs.claim(("crl",), "me", clock.now(), timedelta(minutes=1), 10)
        assert (job.key, job.run_at) == (ISSUER.id, clock.now())
        await jobs.finish(job, "me")
        await refusal_kind(store.release(ISSUER.id, 5, COMPROMISED, ANN))
        assert await jobs.claim(("crl",), "me", clock.now(), timedelta(minutes=1), 10) == ()


@ensure
async def test_crls_statuses_and_the_feed_follow(
    store: SqlCertificateStore, database: Database, clock: FixedClock
) -> None:
    crls, statuses = SqlCrlStore(database, clock), SqlStatusStore(database, clock)
    for serial in (5, 6):
        await issue(store, serial)
    await store.revoke(ISSUER.id, 6, FINAL, ANN)
    other = encode_entry(6, FINAL)
    clock.advance(SECOND)
    steps: tuple[tuple[Any, Revocation | None], ...] = (
        (lambda: store.revoke(ISSUER.id, 5, DOUBTED, ANN), DOUBTED),
        (lambda: store.release(ISSUER.id, 5, DOUBTED, ANN), None),
        (lambda: store.revoke(ISSUER.id, 5, HELD, ANN), HELD),
        (lambda: store.revoke(ISSUER.id, 5, COMPROMISED, ANN, replaces=HELD), COMPROMISED),
    )
    told: list[RevokedSince] = []
    for deed, revocation in steps:
        await deed()
        entries = encode_entry(5, revocation) + other if revocation else other
        assert b"".join(await crls.entries(ISSUER.id, ALL, NOW)) == entries
        assert await statuses.statuses(ISSUER.id, (5,)) == {5: CertificateStatus(5, revocation)}
        (entry,) = await statuses.revoked_since(clock.now())
        assert (entry.issuer_id, entry.serial) == (ISSUER.id, 5)
        told.append(entry)
    assert len(set(told)) == 4, "each change is a new entry, even within one millisecond"


def wish(reason: RevocationReason) -> RevocationRequest:
    return RevocationRequest(ISSUER.id, 5, reason, SOMEBODY)


SOMEBODY = Requester(Proof.PASSWORD, "ann", "Ann", ANY_NAME)
HOLD = RevocationReason.CERTIFICATE_HOLD
_NEXT = {
    None: {RevocationState.HELD, RevocationState.REVOKED},
    RevocationState.RELEASED: {RevocationState.HELD, RevocationState.REVOKED},
    RevocationState.HELD: {RevocationState.RELEASED, RevocationState.REVOKED},
    RevocationState.REVOKED: set(),
}


def check_possible(history: tuple[RevocationChange, ...], record: CertificateRecord) -> None:
    """Every step follows from the one before, and the record says what the last one said."""
    before = None
    for change in history:
        assert change.state in _NEXT[before], [step.state for step in history]
        before = change.state
    last = history[-1]
    assert record.revocation == (None if last.state is RevocationState.RELEASED else last.revocation)


@ensure
async def test_holding_releasing_and_revoking_at_once_has_one_winner_each_time(store: SqlCertificateStore) -> None:
    issued = await issue(store, 5)
    deeds: list[Any] = []
    for _ in range(6):
        deeds += [revoke(store, wish(HOLD), NOW, holds=lambda _: True)]
        deeds += [reinstate(store, ReinstatementRequest(ISSUER.id, 5, SOMEBODY), NOW)]
    deeds += [revoke(store, wish(RevocationReason.SUPERSEDED), NOW, holds=lambda _: True) for _ in range(3)]
    raced = await DeferredList([Deferred.fromCoroutine(deed) for deed in deeds], consumeErrors=True)
    won = [outcome for outcome, _ in raced]
    lost = [failure.value for outcome, failure in raced if not outcome]
    assert all(isinstance(one, Refusal) for one in lost), lost
    assert sum(won[-3:]) == 1, "it is revoked for good once"
    history = await store.revocation_history(issued.id)
    assert len(history) == sum(won)
    check_possible(history, (await store.by_serial(5))[0])
    counted = Counter(change.state for change in history)
    assert counted[RevocationState.HELD] - counted[RevocationState.RELEASED] in {0, 1}


@ensure
async def test_a_release_and_a_revocation_of_one_hold_have_one_winner(store: SqlCertificateStore) -> None:
    issued = await issue(store, 5)
    await store.revoke(ISSUER.id, 5, HELD, ANN)
    deeds = []
    for _ in range(10):
        deeds += [store.release(ISSUER.id, 5, HELD, ANN), store.revoke(ISSUER.id, 5, FINAL, ANN, replaces=HELD)]
    raced = await DeferredList(deeds, consumeErrors=True)
    assert sum(won for won, _ in raced) == 1
    check_possible(await store.revocation_history(issued.id), (await store.by_serial(5))[0])
