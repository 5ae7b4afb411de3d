"""The contracts of `CrlStore` and `StatusStore`, over every database."""

from __future__ import annotations

from datetime import timedelta

import pytest_twisted
from twisted.internet.defer import DeferredList

from opencertd.clock import FixedClock
from opencertd.crl.store import PublishedCrl, RevokedEntry
from opencertd.model.certificates import Revocation, RevocationReason
from opencertd.ocsp.store import CertificateStatus, RevokedSince
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.crls import SqlCrlStore
from opencertd.store.database import Database
from opencertd.store.status import SqlStatusStore
from tests.store.values import ANN, COMPROMISED, ISSUER, LONG_AGO, NOW, OTHER, ROOT, SECOND, intent, issue

ensure = pytest_twisted.ensureDeferred


@pytest_twisted.async_fixture
async def certificates(database: Database, clock: FixedClock) -> SqlCertificateStore:
    store = SqlCertificateStore(database, clock)
    await store.add_issuers((ROOT, ISSUER, OTHER))
    return store


def crl(number: int, issuer_id: str = ISSUER.id, der: bytes = b"crl") -> PublishedCrl:
    return PublishedCrl(issuer_id, number, NOW, NOW + timedelta(days=7), der)


class TestPublishedCrls:
    @ensure
    async def test_follow_the_number_they_were_made_after(
        self, certificates: SqlCertificateStore, database: Database, clock: FixedClock
    ) -> None:
        store = SqlCrlStore(database, clock)
        assert (await store.latest_number(ISSUER.id), await store.latest(ISSUER.id)) == (0, None)
        tries = ((2, 1), (0, 0), (5, 0), (6, 0), (5, 5), (4, 5), (9, 5), (9, 5), (10, 5))
        outcomes = [await store.publish(crl(number), after) for number, after in tries]
        assert outcomes == [False, False, True, False, False, False, True, False, False]
        assert await store.latest_number(ISSUER.id) == 9
        assert await store.latest(ISSUER.id) == crl(9)
        assert await store.latest_number(OTHER.id) == 0

    @ensure
    async def test_raced_have_one_winner(
        self, certificates: SqlCertificateStore, database: Database, clock: FixedClock
    ) -> None:
        store = SqlCrlStore(database, clock)
        raced = [store.publish(crl(1 + n, der=b"%d" % n), 0) for n in range(20)]
        won = [won for _, won in await DeferredList(raced, fireOnOneErrback=True)]
        assert won.count(True) == 1
        latest = await store.latest(ISSUER.id)
        assert latest is not None
        assert latest.crl_der == b"%d" % won.index(True)


class TestEntries:
    @ensure
    async def test_are_the_issuers_revoked_by_serial_until_they_expire(
        self, certificates: SqlCertificateStore, database: Database, clock: FixedClock
    ) -> None:
        store = SqlCrlStore(database, clock)
        expiry = NOW + timedelta(days=90)
        for serial in (0x100, 0xFF, 1 << 150):
            await issue(certificates, serial)
            await certificates.revoke(ISSUER.id, serial, COMPROMISED, ANN)
        await issue(certificates, 3, not_after=expiry - SECOND)
        superseded = Revocation(NOW - SECOND, RevocationReason.SUPERSEDED)
        await certificates.revoke(ISSUER.id, 3, superseded, ANN)
        await issue(certificates, 4)  # never revoked
        await issue(certificates, 5, issuer_id=OTHER.id)
        await certificates.revoke(OTHER.id, 5, COMPROMISED, ANN)
        lasting = tuple(RevokedEntry(serial, COMPROMISED) for serial in (0xFF, 0x100, 1 << 150))
        assert await store.entries(ISSUER.id, NOW) == (RevokedEntry(3, superseded), *lasting)
        assert await store.entries(ISSUER.id, expiry) == lasting
        assert await store.entries(ISSUER.id, expiry + SECOND) == ()


class TestStatuses:
    @ensure
    async def test_know_what_the_issuer_issued_and_nothing_else(
        self, certificates: SqlCertificateStore, database: Database, clock: FixedClock
    ) -> None:
        store = SqlStatusStore(database, clock)
        big = (1 << 159) + 1
        for serial in (1, big):
            await issue(certificates, serial)
        await certificates.revoke(ISSUER.id, big, COMPROMISED, ANN)
        await certificates.reserve(intent(3), None, LONG_AGO)
        await issue(certificates, 4, issuer_id=OTHER.id)
        assert await store.statuses(ISSUER.id, (1, big, 3, 4, 5)) == {
            1: CertificateStatus(1, None),
            big: CertificateStatus(big, COMPROMISED),
        }
        assert await store.statuses(ISSUER.id, ()) == {}


class TestLive:
    @ensure
    async def test_are_all_that_were_issued_and_have_not_expired_in_pages(
        self, certificates: SqlCertificateStore, database: Database, clock: FixedClock
    ) -> None:
        day = timedelta(days=1)
        ends = {1: NOW + day, 2: NOW - day, 3: NOW + day, 4: NOW + 3 * day}
        for serial, end in ends.items():
            await issue(certificates, serial, not_after=end)
        await certificates.reserve(intent(5), None, LONG_AGO)
        await issue(certificates, 6, issuer_id=OTHER.id)
        await certificates.revoke(ISSUER.id, 3, COMPROMISED, ANN)
        store = SqlStatusStore(database, clock)
        pages, after = [], 0
        while page := await store.live(after, 2, NOW):
            pages.append([(one.issuer_id, one.serial) for one in page])
            after = page[-1].id
        assert pages == [[(ISSUER.id, 1), (ISSUER.id, 3)], [(ISSUER.id, 4), (OTHER.id, 6)]]
        assert [one.serial for one in await store.live(0, 9, NOW + 2 * day)] == [4, 6]


class TestRevokedSince:
    @ensure
    async def test_tells_what_was_recorded_since_by_when_it_was_recorded(
        self, certificates: SqlCertificateStore, database: Database, clock: FixedClock
    ) -> None:
        store = SqlStatusStore(database, clock)
        backdated = Revocation(NOW - timedelta(days=3), RevocationReason.UNSPECIFIED)
        step = timedelta(milliseconds=400)
        for serial in (9, 1, 5):
            await issue(certificates, serial)
            await certificates.revoke(ISSUER.id, serial, backdated, ANN)
            clock.advance(step)
        feed = [RevokedSince(ISSUER.id, serial, backdated.revoked_at) for serial in (9, 1, 5)]
        assert await store.revoked_since(NOW) == tuple(feed)
        assert await store.revoked_since(NOW + step) == tuple(feed[1:])
        assert await store.revoked_since(NOW + 3 * step) == ()
