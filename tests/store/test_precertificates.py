"""What was signed for logs is kept and audited at once, under an intent that still holds, or not at all."""

from __future__ import annotations

import hashlib

import pytest
import pytest_twisted
from sqlalchemy import select, text

from opencertd.clock import FixedClock
from opencertd.errors import RefusalKind
from opencertd.model.certificates import CertificateRecord
from opencertd.store.audit import SqlAuditStore
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from opencertd.store.precertificates import SqlPrecertificateStore
from opencertd.store.schema import certificates, precertificates
from tests.issuance.chains import findings
from tests.store.values import ISSUER, LONG_AGO, NOW, OTHER, ROOT, intent, refusal_kind

ensure = pytest_twisted.ensureDeferred


@pytest.fixture
def kept(database: Database, clock: FixedClock) -> SqlPrecertificateStore:
    return SqlPrecertificateStore(database, clock)


@pytest_twisted.async_fixture
async def store(database: Database, clock: FixedClock) -> SqlCertificateStore:
    made = SqlCertificateStore(database, clock)
    await made.add_issuers((ISSUER, ROOT, OTHER))
    return made


@pytest_twisted.async_fixture
async def record(store: SqlCertificateStore) -> CertificateRecord:
    return await store.reserve(intent(7), None, LONG_AGO)


async def deeds(database: Database, clock: FixedClock) -> list[tuple[str, str, str]]:
    entries = await SqlAuditStore(database, clock).page(None, 100)
    assert findings(entries) == []
    return [(e.deed, e.who, e.label) for e in entries if e.deed != "add-issuer"]


async def rows(database: Database) -> list[tuple[int, bytes]]:
    query = select(precertificates.c.certificate_id, precertificates.c.precertificate_der)
    return await database.read(lambda connection: [(row[0], bytes(row[1])) for row in connection.execute(query)])


@ensure
async def test_it_is_kept_with_its_entry(
    database: Database, clock: FixedClock, kept: SqlPrecertificateStore, record: CertificateRecord
) -> None:
    await kept.keep_precertificate(record, b"precertificate", NOW)
    assert await rows(database) == [(record.id, b"precertificate")]
    assert await deeds(database, clock) == [("sign-precertificate", "ann", "Ann")]


@ensure
async def test_what_is_intended_is_what_is_said_to_be_given_up(
    database: Database, clock: FixedClock, kept: SqlPrecertificateStore, store: SqlCertificateStore
) -> None:
    record = await store.reserve(intent(8), None, LONG_AGO)
    other = await store.reserve(intent(9), None, LONG_AGO)
    await kept.intend_certificate(record.id, b"the certificate's")
    query = select(certificates.c.tbs_der).order_by(certificates.c.id)
    found = await database.read(lambda connection: [bytes(one) for one in connection.execute(query).scalars()])
    assert found == [b"the certificate's", b"tbs"] and other.id > record.id
    await store.abandon(record.id)
    entries = await SqlAuditStore(database, clock).page(None, 100)
    assert entries[-1].tbs_sha256 == hashlib.sha256(b"the certificate's").hexdigest()


@ensure
async def test_an_intent_that_does_not_hold_keeps_nothing(
    database: Database,
    clock: FixedClock,
    kept: SqlPrecertificateStore,
    store: SqlCertificateStore,
    record: CertificateRecord,
) -> None:
    issued = await store.reserve(intent(8), None, LONG_AGO)
    await store.complete(issued.id, b"certificate", NOW)
    await store.abandon(record.id)
    for one in (record, issued):
        assert await refusal_kind(kept.keep_precertificate(one, b"precertificate", NOW)) is RefusalKind.CONFLICT
        assert await refusal_kind(kept.intend_certificate(one.id, b"other")) is RefusalKind.CONFLICT
    assert await rows(database) == []
    assert [deed for deed, *_ in await deeds(database, clock)] == ["issue", "abandon"]


@ensure
async def test_without_its_entry_it_is_not_kept(
    database: Database, kept: SqlPrecertificateStore, record: CertificateRecord
) -> None:
    await database.write(lambda connection: connection.execute(text("ALTER TABLE audit RENAME TO elsewhere")).close())
    try:
        assert await refusal_kind(kept.keep_precertificate(record, b"precertificate", NOW)) is RefusalKind.UNAVAILABLE
        assert await rows(database) == []
    finally:
        await database.write(
            lambda connection: connection.execute(text("ALTER TABLE elsewhere RENAME TO audit")).close()
        )
