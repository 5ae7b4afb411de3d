"""The store knows the keys of certificates revoked for keyCompromise, on every database."""

from __future__ import annotations

import pytest_twisted

from opencertd.clock import FixedClock
from opencertd.model.certificates import Revocation, RevocationReason
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from tests.store.values import ANN, COMPROMISED, ISSUER, LONG_AGO, NOW, OTHER, ROOT, intent, issue

KEY, OTHER_KEY = "ab" * 32, "cd" * 32


@pytest_twisted.ensureDeferred
async def test_one_revocation_for_key_compromise_is_enough(database: Database, clock: FixedClock) -> None:
    store = SqlCertificateStore(database, clock)
    await store.add_issuers((ISSUER, ROOT, OTHER))
    for serial in (1, 2, 3):
        await issue(store, serial, spki_sha256=KEY)
    await issue(store, 4, spki_sha256=OTHER_KEY)
    await store.reserve(intent(5, spki_sha256=KEY), None, LONG_AGO)
    assert not await store.is_compromised(KEY)
    await store.revoke(ISSUER.id, 1, Revocation(NOW, RevocationReason.SUPERSEDED), ANN)
    assert not await store.is_compromised(KEY)
    await store.revoke(ISSUER.id, 2, COMPROMISED, ANN)
    assert COMPROMISED.reason is RevocationReason.KEY_COMPROMISE
    assert await store.is_compromised(KEY)
    assert not await store.is_compromised(OTHER_KEY)


@pytest_twisted.ensureDeferred
async def test_it_looks_the_key_up_by_an_index(database: Database, clock: FixedClock) -> None:
    """Every issuance asks; reading all certificates for it would stop a large CA."""
    SqlCertificateStore(database, clock)

    def plan(connection: object) -> str:
        from sqlalchemy import Connection, text

        assert isinstance(connection, Connection)
        query = "SELECT id FROM certificates WHERE spki_sha256 = 'ab'"
        if connection.dialect.name == "sqlite":
            return str(connection.execute(text(f"EXPLAIN QUERY PLAN {query}")).all())
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        return str(connection.execute(text(f"EXPLAIN {query}")).all())

    assert "ix_certificates_spki_sha256" in await database.read(plan)
