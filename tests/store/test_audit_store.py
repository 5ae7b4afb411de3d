"""The audit chain over every database: in the deed's own transaction or not at all, and whole whoever appends."""

from __future__ import annotations

from datetime import timedelta

import pytest
import pytest_twisted
from sqlalchemy import text
from twisted.internet.defer import Deferred, DeferredList

from opencertd.clock import FixedClock
from opencertd.crl.store import Line, PublishedCrl
from opencertd.errors import RefusalKind
from opencertd.model.audit import START, AuditEntry, AuditEvent, AuditHead, Deed
from opencertd.model.certificates import CertificateState
from opencertd.store.audit import SqlAuditStore
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.crls import SqlCrlStore
from opencertd.store.database import Database
from tests.issuance.chains import findings
from tests.store.values import ANN, COMPROMISED, ISSUER, LONG_AGO, NOW, OTHER, ROOT, SECOND, intent, issue, refusal_kind

ensure = pytest_twisted.ensureDeferred


@pytest.fixture
def audit(database: Database, clock: FixedClock) -> SqlAuditStore:
    return SqlAuditStore(database, clock)


@pytest_twisted.async_fixture
async def store(database: Database, clock: FixedClock) -> SqlCertificateStore:
    made = SqlCertificateStore(database, clock)
    await made.add_issuers((ISSUER, ROOT, OTHER))
    return made


def event(number: int = 0, **changes: object) -> AuditEvent:
    values = {"deed": Deed.ISSUE, "proof": "password", "who": "ann", "label": "Ann", "at": NOW, "what": {"n": number}}
    return AuditEvent(**{**values, **changes})  # type: ignore[arg-type]


async def entries(audit: SqlAuditStore) -> tuple[AuditEntry, ...]:
    return await audit.page(None, 10_000)


@ensure
async def test_an_empty_chain(audit: SqlAuditStore) -> None:
    assert await audit.head() == AuditHead(0, START)
    assert await entries(audit) == ()
    assert await audit.entry(1) is None


@ensure
async def test_entries_come_back_as_written_and_linked(audit: SqlAuditStore) -> None:
    await audit.record(event(1, label="Änn", tbs_sha256="ab" * 32, result="rejected name"))
    await audit.record(event(2, what={"odd": "\0\ud800"}))
    first, second = await entries(audit)
    assert (first.sequence, first.previous, second.previous) == (1, START, first.hash)
    assert (first.label, first.result, first.tbs_sha256, first.at) == ("Änn", "rejected name", "ab" * 32, NOW)
    assert findings([first, second]) == []
    assert await audit.head() == AuditHead(2, second.hash)
    assert await audit.entry(1) == first
    assert await audit.page(1, 10) == (second,)
    assert await audit.page(None, 1) == (first,)


@ensure
async def test_the_latest_settings_of_a_node(audit: SqlAuditStore) -> None:
    for number, who in enumerate(("a", "b", "a")):
        await audit.record(event(number, deed=Deed.SETTINGS, who=who))
    await audit.record(event(9, who="a"))
    latest = await audit.latest_settings("a")
    assert latest is not None
    assert latest.sequence == 3
    assert await audit.latest_settings("c") is None


@ensure
async def test_every_deed_of_the_store_leaves_its_entry(
    store: SqlCertificateStore, audit: SqlAuditStore, database: Database, clock: FixedClock
) -> None:
    await issue(store, 1)
    given_up = await store.reserve(intent(2), None, LONG_AGO)
    await store.abandon(given_up.id, "signing failed")
    await store.abandon(given_up.id)  # does nothing, and says nothing
    await store.reserve(intent(3, transaction="t"), None, LONG_AGO)
    await store.reserve(intent(4, transaction="t"), None, NOW + SECOND)  # the other one is stale
    await store.abandon_intents(owner=None, before=None)
    await store.revoke(ISSUER.id, 1, COMPROMISED, ANN)
    crls = SqlCrlStore(database, clock)
    crl = PublishedCrl(ISSUER.id, 1, NOW, NOW + timedelta(days=7), b"crl")
    assert [await crls.publish(crl, 0), await crls.publish(crl, 0)] == [True, False]
    found = await entries(audit)
    assert findings(found) == []
    assert [(entry.deed, entry.who, entry.label) for entry in found] == [
        *[("add-issuer", "daemon", "daemon")] * 3,
        ("issue", "ann", "Ann"),
        *[("abandon", "ann", "Ann")] * 3,
        ("revoke", "ann", "Ann"),
        *[("sign-crl", "daemon", "daemon")] * 2,
    ]
    assert ['"serial":"1"' in found[n].what for n in (3, 7)] == [True, True]
    assert ['"why":"signing failed"' in found[4].what, '"why":"its worker died"' in found[5].what] == [True, True]
    assert ['"published":true' in found[8].what, '"published":false' in found[9].what] == [True, True]


@ensure
async def test_a_refused_deed_leaves_no_entry_of_its_being_done(
    store: SqlCertificateStore, audit: SqlAuditStore
) -> None:
    done = await issue(store, 1)
    before = await audit.head()
    assert await refusal_kind(store.complete(done.id, b"again", NOW)) is RefusalKind.CONFLICT
    assert await refusal_kind(store.revoke(OTHER.id, 1, COMPROMISED, ANN)) is RefusalKind.NOT_FOUND
    assert await refusal_kind(store.add_issuers((OTHER,))) is RefusalKind.CONFLICT
    assert await audit.head() == before


async def spoil(database: Database, statement: str) -> None:
    await database.write(lambda connection: connection.execute(text(statement)).close())


FORBID = {
    "sqlite": [
        "CREATE TRIGGER forbid BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END",
        "DROP TRIGGER forbid",
    ],
    "postgresql": [
        "ALTER TABLE audit ADD CONSTRAINT forbid CHECK (sequence < 0) NOT VALID",
        "ALTER TABLE audit DROP CONSTRAINT forbid",
    ],
}


@ensure
async def test_a_deed_that_cannot_be_recorded_is_not_done(
    store: SqlCertificateStore, audit: SqlAuditStore, database: Database, clock: FixedClock
) -> None:
    issued = await issue(store, 1)
    record = await store.reserve(intent(2), None, LONG_AGO)
    stale = await store.reserve(intent(3, transaction="t"), None, LONG_AGO)
    before = await audit.head()
    crls = SqlCrlStore(database, clock)
    crl = PublishedCrl(ISSUER.id, 1, NOW, NOW + timedelta(days=7), b"crl")
    fresh = type(OTHER)("dd" * 16, "fresh", OTHER.role, b"fresh", "fresh.pem", None)
    forbid, allow = FORBID[await database.read(lambda connection: connection.dialect.name)]
    await spoil(database, forbid)
    try:
        deeds: list[Deferred[object]] = [
            store.complete(record.id, b"certificate", NOW),
            store.revoke(ISSUER.id, 1, COMPROMISED, ANN),
            store.abandon(record.id),
            store.abandon_intents(owner=None, before=None),
            store.reserve(intent(4, transaction="t"), None, NOW + SECOND),
            store.add_issuers((fresh,)),
            crls.publish(crl, 0),
            audit.record(event()),
        ]
        kinds = [await refusal_kind(deed) for deed in deeds]
    finally:
        await spoil(database, allow)
    assert kinds == [RefusalKind.UNAVAILABLE] * len(deeds)
    assert await store.by_serial(1) == (issued,)  # and not revoked
    for kept in (record, stale):
        left = await store.by_id(kept.id)
        assert left is not None
        assert left.state is CertificateState.INTENDED
    assert await store.by_transaction("t") == stale
    assert await store.issuers() == (ISSUER, ROOT, OTHER)
    assert await crls.latest_number(Line(ISSUER.id)) == 0
    assert await audit.head() == before
    assert (await store.complete(record.id, b"certificate", NOW)).state is CertificateState.ISSUED


@ensure
async def test_appended_at_once_the_chain_is_one(audit: SqlAuditStore, store: SqlCertificateStore) -> None:
    deeds: list[Deferred[object]] = [audit.record(event(number)) for number in range(60)]
    deeds += [Deferred.fromCoroutine(issue(store, serial)) for serial in range(1, 40)]
    await DeferredList(deeds, fireOnOneErrback=True)
    found = await entries(audit)
    assert len(found) == 3 + 60 + 39
    assert findings(found) == []
