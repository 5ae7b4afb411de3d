"""A CA with its past comes into every database as a whole or not at all, and coming again changes only what is new."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_twisted

from opencertd.asn1.crl import entry_serials
from opencertd.clock import FixedClock
from opencertd.crl.store import Entries, Line, PublishedCrl
from opencertd.errors import RefusalKind
from opencertd.issuance.past import PastCertificate
from opencertd.model.certificates import Revocation, RevocationReason, RevocationState
from opencertd.model.requester import ANY_NAME, Proof, Requester
from opencertd.store.audit import SqlAuditStore
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.crls import SqlCrlStore
from opencertd.store.database import Database
from opencertd.store.imports import BATCH, SqlImportStore, TakenIn
from opencertd.store.status import SqlStatusStore
from tests.store.values import NOW, OTHER, ROOT, dns, refusal_kind

ALICE = Requester(Proof.OPERATOR, "alice", "alice", ANY_NAME)
EXPIRES = NOW + timedelta(days=90)
THEN = datetime(2020, 1, 1, tzinfo=UTC)
STOLEN = Revocation(THEN, RevocationReason.KEY_COMPROMISE, THEN - timedelta(days=1))
HELD = Revocation(THEN, RevocationReason.CERTIFICATE_HOLD)
WITH_DER = PastCertificate(1, "CN=a", EXPIRES, STOLEN, (dns("a.test"),), THEN, "ab" * 32, b"certificate")
BY_INDEX = PastCertificate(0xFFFFFFFFFFFFFFFFFFFF, "CN=b", EXPIRES, HELD)
GOOD = PastCertificate(3, "CN=c", EXPIRES)
OWN = (OTHER.id, PastCertificate(9, "CN=ca", EXPIRES, certificate_der=b"other", profile="issuing"))


class CrlBuilder:
    """Builds no real CRL, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, tuple[int, ...]]] = []

    def __call__(self, after: int, entries: Entries) -> PublishedCrl:
        self.asked.append((after, tuple(sorted(entry_serials(b"".join(entries))))))
        return PublishedCrl(OTHER.id, after + 1, NOW, NOW + timedelta(days=7), b"crl")


@pytest.fixture
def store(database: Database) -> SqlImportStore:
    return SqlImportStore(database, FixedClock(NOW))


async def take_in(store: SqlImportStore, past: Sequence[PastCertificate], **changes: Any) -> TakenIn:
    given = {"issuer": OTHER, "own": OWN, "past": past, "build_crl": CrlBuilder(), "by": ALICE, **changes}
    return await store.take_in(**given)


async def everything(database: Database) -> tuple[Any, ...]:
    """What the tables hold that an import could have changed."""
    certificates, audit = SqlCertificateStore(database, FixedClock(NOW)), SqlAuditStore(database, FixedClock(NOW))
    crls = await SqlCrlStore(database, FixedClock(NOW)).latest(Line(OTHER.id))
    return (await certificates.issuers(), await certificates.inventory(0, 5000), await audit.page(None, 5000), crls)


@pytest_twisted.ensureDeferred
async def test_all_of_it_is_there(store: SqlImportStore, database: Database) -> None:
    build = CrlBuilder()
    assert await take_in(store, [WITH_DER, BY_INDEX, GOOD], build_crl=build) == TakenIn(True, 3, 2)
    certificates = SqlCertificateStore(database, FixedClock(NOW))
    assert await certificates.issuers() == (OTHER,)
    shown = {record.serial: record for record in await certificates.inventory(0, 100)}
    assert {serial: record.revocation for serial, record in shown.items()} == {
        1: STOLEN,
        BY_INDEX.serial: HELD,
        3: None,
        9: None,
    }
    assert (shown[1].certificate_der, shown[1].names, shown[1].not_before) == (b"certificate", (dns("a.test"),), THEN)
    assert shown[BY_INDEX.serial].certificate_der is None
    assert (shown[1].profile, shown[9].profile) == ("imported", "issuing")
    assert build.asked == [(0, (1, BY_INDEX.serial))]
    assert await certificates.is_compromised("ab" * 32)
    (change,) = await certificates.revocation_history(shown[1].id)
    assert (change.state, change.changed_at, change.by) == (RevocationState.REVOKED, THEN, "import by alice")
    statuses = await SqlStatusStore(database, FixedClock(NOW)).statuses(OTHER.id, (1, 2, 3, BY_INDEX.serial))
    assert {serial: status.revocation for serial, status in statuses.items()} == {
        1: STOLEN,
        3: None,
        BY_INDEX.serial: HELD,
    }


@pytest_twisted.ensureDeferred
async def test_the_audit_chain_says_it(store: SqlImportStore, database: Database) -> None:
    await take_in(store, [WITH_DER, GOOD], index_sha256="ff")
    entries = await SqlAuditStore(database, FixedClock(NOW)).page(None, 100)
    assert [entry.deed for entry in entries] == ["add-issuer", "change-ca", "sign-crl"]
    said = json.loads(entries[1].what)
    assert (said["deed"], said["certificates"], said["revocations"], said["index_sha256"]) == ("import", "2", "1", "ff")
    assert (entries[1].proof, entries[1].who) == ("operator", "alice")


@pytest_twisted.ensureDeferred
async def test_again_changes_nothing(store: SqlImportStore, database: Database) -> None:
    await take_in(store, [WITH_DER, BY_INDEX, GOOD])
    before = await everything(database)
    assert await take_in(store, [WITH_DER, BY_INDEX, GOOD]) == TakenIn(False, 0, 0)
    assert await everything(database) == before


@pytest_twisted.ensureDeferred
async def test_again_brings_what_is_new(store: SqlImportStore, database: Database) -> None:
    await take_in(store, [WITH_DER, GOOD])
    build = CrlBuilder()
    revoked_since = PastCertificate(3, "CN=c", EXPIRES, HELD)
    assert await take_in(store, [WITH_DER, revoked_since, BY_INDEX], build_crl=build) == TakenIn(False, 1, 2)
    assert build.asked == [(1, (1, 3, BY_INDEX.serial))]
    feed = await SqlStatusStore(database, FixedClock(NOW)).revoked_since(NOW - timedelta(seconds=10))
    assert [entry.serial for entry in feed] == [3], "workers must drop what they prepared of it, and of nothing else"


@pytest_twisted.ensureDeferred
async def test_what_was_decided_here_stays(store: SqlImportStore, database: Database) -> None:
    certificates = SqlCertificateStore(database, FixedClock(NOW))
    await take_in(store, [BY_INDEX, GOOD])
    await certificates.release(OTHER.id, BY_INDEX.serial, HELD, ALICE)
    await certificates.revoke(OTHER.id, 3, Revocation(NOW, RevocationReason.SUPERSEDED), ALICE)
    assert not await take_in(store, [BY_INDEX, PastCertificate(3, "CN=c", EXPIRES, STOLEN)])
    records = {record.serial: record for record in await certificates.inventory(0, 100)}
    assert records[BY_INDEX.serial].revocation is None
    assert records[3].revocation == Revocation(NOW, RevocationReason.SUPERSEDED)


@pytest_twisted.ensureDeferred
async def test_names_and_certificates_are_taken_once(store: SqlImportStore, database: Database) -> None:
    await take_in(store, [GOOD])
    before = await everything(database)
    other_name: Any = {"issuer": OTHER.__class__(**{**vars(OTHER), "name": "office"})}
    other_ca: Any = {"issuer": OTHER.__class__(**{**vars(OTHER), "id": ROOT.id})}
    for changes in (other_name, other_ca):
        assert await refusal_kind(take_in(store, [WITH_DER], **changes)) is RefusalKind.CONFLICT
    assert await everything(database) == before


def many(fails_after: int | None = None) -> Iterator[PastCertificate]:
    for serial in range(10, 10 + 3 * BATCH + 7):
        if fails_after is not None and serial > fails_after:
            raise ValueError("the disk")
        yield PastCertificate(serial, "CN=x", EXPIRES, STOLEN if serial % 2 else None)


@pytest_twisted.ensureDeferred
async def test_more_than_one_batch(store: SqlImportStore) -> None:
    assert await take_in(store, list(many())) == TakenIn(True, 3 * BATCH + 7, (3 * BATCH + 7) // 2)


@pytest_twisted.ensureDeferred
async def test_a_failure_in_the_midst_leaves_nothing(store: SqlImportStore, database: Database) -> None:
    before = await everything(database)
    past: Any = many(fails_after=2 * BATCH)
    with pytest.raises(ValueError, match="the disk"):
        await take_in(store, past)
    assert await everything(database) == before

    def broken(after: int, entries: Entries) -> PublishedCrl:
        raise ValueError("the key")

    with pytest.raises(ValueError, match="the key"):
        await take_in(store, [WITH_DER], build_crl=broken)
    assert await everything(database) == before
