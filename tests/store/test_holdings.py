"""What issuers have out, counted over every database."""

from __future__ import annotations

from datetime import timedelta

import pytest_twisted
from sqlalchemy import update

from opencertd.clock import FixedClock
from opencertd.model.certificates import Revocation, RevocationReason
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from opencertd.store.holdings import Holdings, SqlHoldings
from opencertd.store.schema import certificates
from tests.store.values import ANN, ISSUER, LONG_AGO, NOW, OTHER, ROOT, intent

DAY = timedelta(days=1)


@pytest_twisted.ensureDeferred
async def test_what_is_live_what_is_revoked_and_until_when(database: Database) -> None:
    store = SqlCertificateStore(database, FixedClock(NOW))
    await store.add_issuers((ROOT, ISSUER, OTHER))
    for serial, issuer, days, der in (
        (1, ROOT, 9000, ROOT.certificate_der),  # its own
        (2, ROOT, 3000, ISSUER.certificate_der),
        (3, ISSUER, 10, b"3"),
        (4, ISSUER, 20, b"4"),
        (5, ISSUER, 30, b"5"),
        (6, ISSUER, -1, b"6"),
    ):
        asked = intent(serial, issuer_id=issuer.id, not_after=NOW + days * DAY)
        record = await store.reserve(asked, None, LONG_AGO)
        await store.complete(record.id, der, NOW)
    await store.reserve(intent(7, issuer_id=ISSUER.id), None, LONG_AGO)
    held = Revocation(NOW, RevocationReason.CERTIFICATE_HOLD)
    await store.revoke(ISSUER.id, 4, held, ANN)
    await store.revoke(ISSUER.id, 5, held, ANN)
    await store.release(ISSUER.id, 5, held, ANN)
    no_file = update(certificates).where(certificates.c.serial == 3).values(certificate_der=None)  # as an index tells
    await database.write(lambda connection: connection.execute(no_file).rowcount)
    assert await SqlHoldings(database).by_issuer(NOW) == {
        ROOT.id: Holdings(1, 0, NOW + 3000 * DAY),
        ISSUER.id: Holdings(2, 1, NOW + 30 * DAY),
    }
