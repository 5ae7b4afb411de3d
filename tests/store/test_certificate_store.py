"""The contract of `CertificateStore`, over every database."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
import pytest_twisted
from sqlalchemy import select
from twisted.internet.defer import DeferredList

from opencertd.clock import FixedClock
from opencertd.errors import Refusal, RefusalKind
from opencertd.model.certificates import CertificateState, Revocation, RevocationReason
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from opencertd.store.jobs import SqlJobStore
from opencertd.store.schema import certificates
from tests.store.values import ANN, COMPROMISED, ISSUER, LONG_AGO, NOW, OTHER, ROOT, SECOND, intent, issue, refusal_kind

ensure = pytest_twisted.ensureDeferred


@pytest_twisted.async_fixture
async def store(database: Database, clock: FixedClock) -> SqlCertificateStore:
    made = SqlCertificateStore(database, clock)
    await made.add_issuers((ISSUER, ROOT, OTHER))  # a child before its parent
    return made


class TestIssuers:
    @ensure
    async def test_come_back_as_kept_in_the_order_of_adding(self, store: SqlCertificateStore) -> None:
        assert await store.issuers() == (ISSUER, ROOT, OTHER)

    @ensure
    @pytest.mark.parametrize("changed", [{"id": "dd" * 16}, {"name": "another"}])
    async def test_are_added_all_or_none(self, store: SqlCertificateStore, changed: dict[str, str]) -> None:
        fresh = dataclasses.replace(OTHER, id="ee" * 16, name="fresh")
        taken = dataclasses.replace(OTHER, **changed)
        assert await refusal_kind(store.add_issuers((fresh, taken))) is RefusalKind.CONFLICT
        assert await store.issuers() == (ISSUER, ROOT, OTHER)


class TestReserve:
    @ensure
    async def test_writes_the_intent_down(self, store: SqlCertificateStore, database: Database) -> None:
        serial = (1 << 159) + 7
        asked = intent(serial, transaction="t")
        record = await store.reserve(asked, None, LONG_AGO)
        for name in ("issuer_id", "profile", "requester", "requester_label", "subject", "names", "owner"):
            assert getattr(record, name) == getattr(asked, name)
        assert (record.serial, record.state) == (serial, CertificateState.INTENDED)
        assert (record.not_before, record.not_after) == (asked.not_before, asked.not_after)
        assert (record.intended_at, record.certificate_der, record.revocation) == (NOW, None, None)
        assert await store.by_id(record.id) == record
        assert await store.by_transaction("t") == record
        kept = select(certificates.c.tbs_der).where(certificates.c.id == record.id)
        assert await database.read(lambda connection: connection.execute(kept).scalar()) == b"tbs"

    @ensure
    async def test_an_intent_is_not_an_issued_certificate(self, store: SqlCertificateStore) -> None:
        await store.reserve(intent(5), None, LONG_AGO)
        assert await store.by_serial(5) == ()
        assert await store.inventory(0, 10) == ()
        assert await refusal_kind(store.revoke(ISSUER.id, 5, COMPROMISED, ANN)) is RefusalKind.NOT_FOUND

    @ensure
    async def test_an_issuer_uses_a_serial_once_and_another_may_too(self, store: SqlCertificateStore) -> None:
        first = await store.reserve(intent(5), None, LONG_AGO)
        assert await refusal_kind(store.reserve(intent(5), None, LONG_AGO)) is RefusalKind.CONFLICT
        other = await store.reserve(intent(5, issuer_id=OTHER.id), None, LONG_AGO)
        assert other.id != first.id
        await store.abandon(first.id)
        assert await refusal_kind(store.reserve(intent(5), None, LONG_AGO)) is RefusalKind.CONFLICT

    @ensure
    async def test_a_transaction_key_has_one_record(self, store: SqlCertificateStore) -> None:
        first = await store.reserve(intent(1, transaction="t"), None, LONG_AGO)
        assert await store.reserve(intent(2, transaction="t", owner="node/1"), None, LONG_AGO) == first
        issued = await store.complete(first.id, b"certificate", NOW)
        later = intent(3, transaction="t", intended_at=NOW + timedelta(days=99))
        assert await store.reserve(later, None, LONG_AGO) == issued

    @ensure
    async def test_records_without_a_transaction_key_do_not_meet(self, store: SqlCertificateStore) -> None:
        first = await store.reserve(intent(1), None, LONG_AGO)
        second = await store.reserve(intent(2), None, LONG_AGO)
        assert first.id < second.id

    @ensure
    async def test_a_taken_serial_does_not_hide_the_transactions_record(self, store: SqlCertificateStore) -> None:
        first = await store.reserve(intent(1, transaction="t"), None, LONG_AGO)
        assert await store.reserve(intent(1, transaction="t"), None, LONG_AGO) == first

    @ensure
    async def test_a_stale_intent_gives_its_key_up(self, store: SqlCertificateStore) -> None:
        first = await store.reserve(intent(1, transaction="t"), None, LONG_AGO)
        assert await store.reserve(intent(2, transaction="t"), None, NOW) == first  # not before, so not stale
        second = await store.reserve(intent(2, transaction="t"), None, NOW + SECOND)
        assert second.serial == 2
        abandoned = await store.by_id(first.id)
        assert abandoned is not None
        assert abandoned.state is CertificateState.ABANDONED
        assert await refusal_kind(store.complete(first.id, b"late", NOW)) is RefusalKind.CONFLICT

    @ensure
    async def test_an_issued_certificate_keeps_its_key_for_the_window(self, store: SqlCertificateStore) -> None:
        window = timedelta(hours=1)
        first = await issue(store, 1, transaction="t")
        within = intent(2, transaction="t", intended_at=NOW + window)
        assert await store.reserve(within, window, NOW + window) == first
        after = intent(2, transaction="t", intended_at=NOW + window + SECOND)
        second = await store.reserve(after, window, LONG_AGO)
        assert second.serial == 2
        assert await store.by_id(first.id) == first  # still issued, and in the inventory
        assert await store.by_transaction("t") == second

    @ensure
    async def test_raced_reservations_have_one_winner(self, store: SqlCertificateStore) -> None:
        raced = [store.reserve(intent(n, transaction="t"), None, LONG_AGO) for n in range(1, 31)]
        results = await DeferredList(raced, fireOnOneErrback=True)
        assert len({record.id for _, record in results}) == 1

    @ensure
    async def test_raced_renewals_of_a_key_have_one_winner(self, store: SqlCertificateStore) -> None:
        window = timedelta(hours=1)
        first = await issue(store, 100, transaction="t")
        later = NOW + timedelta(hours=2)
        raced = [store.reserve(intent(n, transaction="t", intended_at=later), window, LONG_AGO) for n in range(1, 31)]
        results = await DeferredList(raced, fireOnOneErrback=True)
        assert len({record.id for _, record in results} - {first.id}) == 1


class TestComplete:
    @ensure
    async def test_makes_it_issued_once(self, store: SqlCertificateStore) -> None:
        intended = await store.reserve(intent(9), None, LONG_AGO)
        issued = await store.complete(intended.id, b"certificate", NOW)
        assert issued == dataclasses.replace(intended, state=CertificateState.ISSUED, certificate_der=b"certificate")
        assert await store.by_id(issued.id) == issued
        assert await refusal_kind(store.complete(intended.id, b"other", NOW)) is RefusalKind.CONFLICT
        assert await store.by_serial(9) == (issued,)

    @ensure
    async def test_is_refused_after_abandoning(self, store: SqlCertificateStore) -> None:
        record = await store.reserve(intent(9, transaction="t"), None, LONG_AGO)
        await store.abandon(record.id)
        assert await refusal_kind(store.complete(record.id, b"certificate", NOW)) is RefusalKind.CONFLICT
        assert await store.by_transaction("t") is None

    @ensure
    async def test_abandoning_does_nothing_to_what_is_issued(self, store: SqlCertificateStore) -> None:
        issued = await issue(store, 9, transaction="t")
        await store.abandon(issued.id)
        assert await store.abandon_intents(owner=None, before=None) == 0
        assert await store.by_transaction("t") == issued

    @ensure
    async def test_intents_are_abandoned_by_owner_and_time(self, store: SqlCertificateStore) -> None:
        await store.reserve(intent(1, owner="a", intended_at=NOW), None, LONG_AGO)
        await store.reserve(intent(2, owner="a", intended_at=NOW + SECOND), None, LONG_AGO)
        await store.reserve(intent(3, owner="b", intended_at=NOW), None, LONG_AGO)
        assert await store.abandon_intents(owner="a", before=NOW) == 0
        assert await store.abandon_intents(owner="a", before=NOW + SECOND) == 1
        assert await store.abandon_intents(owner="a", before=None) == 1
        assert await store.abandon_intents(owner=None, before=NOW + SECOND) == 1
        assert await store.abandon_intents(owner=None, before=None) == 0


class TestReading:
    @ensure
    async def test_by_serial_of_one_issuer_or_of_all(self, store: SqlCertificateStore) -> None:
        one = await issue(store, 5)
        two = await issue(store, 5, issuer_id=OTHER.id)
        assert await store.by_serial(5) == (one, two)
        assert await store.by_serial(5, ISSUER.id) == (one,)
        assert await store.by_serial(5, ROOT.id) == ()
        assert await store.by_serial(0x50) == ()

    @ensure
    async def test_inventory_comes_in_pages(self, store: SqlCertificateStore) -> None:
        issued = [await issue(store, serial) for serial in (30, 10, 20)]
        await store.reserve(intent(40), None, LONG_AGO)
        assert await store.inventory(0, 2) == tuple(issued[:2])
        assert await store.inventory(issued[1].id, 2) == (issued[2],)
        assert await store.inventory(issued[2].id, 2) == ()

    @ensure
    async def test_what_is_not_there_is_none(self, store: SqlCertificateStore) -> None:
        assert await store.by_id(77) is None
        assert await store.by_transaction("none") is None


class TestRevoke:
    @ensure
    async def test_once_and_the_crl_is_owed(self, store: SqlCertificateStore, database: Database) -> None:
        issued = await issue(store, 5)
        revoked = await store.revoke(ISSUER.id, 5, COMPROMISED, ANN)
        assert revoked == dataclasses.replace(issued, revocation=COMPROMISED)
        assert await store.by_serial(5) == (revoked,)
        assert await store.inventory(0, 10) == (revoked,)
        again = Revocation(NOW + SECOND, RevocationReason.SUPERSEDED)
        assert await refusal_kind(store.revoke(ISSUER.id, 5, again, ANN)) is RefusalKind.ALREADY_REVOKED
        assert await store.by_serial(5) == (revoked,)
        jobs = SqlJobStore(database, FixedClock(NOW))
        (job,) = await jobs.claim(("crl",), "me", NOW, timedelta(minutes=1), 10)
        assert (job.key, job.run_at, job.generation) == (ISSUER.id, NOW, 1)

    @ensure
    async def test_is_refused_for_another_issuers_serial(self, store: SqlCertificateStore, database: Database) -> None:
        await issue(store, 5)
        assert await refusal_kind(store.revoke(OTHER.id, 5, COMPROMISED, ANN)) is RefusalKind.NOT_FOUND
        jobs = SqlJobStore(database, FixedClock(NOW))
        assert await jobs.claim(("crl",), "me", NOW, timedelta(minutes=1), 10) == ()

    @ensure
    async def test_raced_has_one_winner(self, store: SqlCertificateStore) -> None:
        await issue(store, 5)
        raced = await DeferredList(
            [store.revoke(ISSUER.id, 5, COMPROMISED, ANN) for _ in range(20)], consumeErrors=True
        )
        lost = [failure.value for won, failure in raced if not won]
        assert len(lost) == 19
        assert all(isinstance(one, Refusal) and one.kind is RefusalKind.ALREADY_REVOKED for one in lost)


@ensure
async def test_the_first_to_ask_sets_a_secret(store: SqlCertificateStore) -> None:
    assert await store.secret("nonces", b"\x00first") == b"\x00first"
    assert await store.secret("nonces", b"second") == b"\x00first"
    assert await store.secret("other", b"third") == b"third"


@pytest.mark.parametrize("left", ["unknown", "intended", "abandoned"])
@pytest_twisted.ensureDeferred
async def test_a_certificate_that_is_there_is_noted_whatever_a_dead_process_left_of_it(
    store: SqlCertificateStore, left: str
) -> None:
    known = intent(7, transaction="ca:7", owner="desk-1")
    if left != "unknown":
        await store.reserve(known, None, LONG_AGO)
    if left == "abandoned":
        await store.abandon_intents(owner="desk-1", before=None)
    for _ in range(2):
        await store.note(dataclasses.replace(known, owner="start"), b"certificate")
    (noted,) = await store.by_serial(7, ISSUER.id)
    assert (noted.state, noted.certificate_der) == (CertificateState.ISSUED, b"certificate")


@pytest_twisted.ensureDeferred
async def test_noting_changes_nothing_about_what_was_issued(store: SqlCertificateStore) -> None:
    before = await issue(store, 7)
    await store.note(intent(7, transaction="ca:7"), b"another")
    assert await store.by_serial(7, ISSUER.id) == (before,)
