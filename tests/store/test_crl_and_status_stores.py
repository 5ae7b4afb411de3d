"""The contracts of `CrlStore` and `StatusStore`, over every database."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import timedelta

import pytest_twisted
from twisted.internet.defer import DeferredList

from opencertd.asn1.crl import encode_entry, encode_removed_entry, entry_serials
from opencertd.clock import FixedClock
from opencertd.crl.store import Line, PublishedCrl, Scheme
from opencertd.model.certificates import Revocation, RevocationReason
from opencertd.model.crl_parts import ALL, CAS, USERS, Part
from opencertd.ocsp.store import CertificateStatus, RevokedSince
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.crls import SqlCrlStore
from opencertd.store.database import Database
from opencertd.store.jobs import SqlJobStore
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
        assert (await store.latest_number(Line(ISSUER.id)), await store.latest(Line(ISSUER.id))) == (0, None)
        tries = ((2, 1), (0, 0), (5, 0), (6, 0), (5, 5), (4, 5), (9, 5), (9, 5), (10, 5))
        outcomes = [await store.publish(crl(number), after) for number, after in tries]
        assert outcomes == [False, False, True, False, False, False, True, False, False]
        assert await store.latest_number(Line(ISSUER.id)) == 9
        assert await store.latest(Line(ISSUER.id)) == crl(9)
        assert await store.latest_number(Line(OTHER.id)) == 0

    @ensure
    async def test_raced_have_one_winner(
        self, certificates: SqlCertificateStore, database: Database, clock: FixedClock
    ) -> None:
        store = SqlCrlStore(database, clock)
        raced = [store.publish(crl(1 + n, der=b"%d" % n), 0) for n in range(20)]
        won = [won for _, won in await DeferredList(raced, fireOnOneErrback=True)]
        assert won.count(True) == 1
        latest = await store.latest(Line(ISSUER.id))
        assert latest is not None
        assert latest.crl_der == b"%d" % won.index(True)

    @ensure
    async def test_of_many_megabytes_are_kept_to_the_last_octet(
        self, certificates: SqlCertificateStore, database: Database, clock: FixedClock
    ) -> None:
        store = SqlCrlStore(database, clock)
        large = crl(5, der=secrets.token_bytes((3 << 20) + 7))
        assert [await store.publish(large, 0), await store.publish(large, 0)] == [True, False]
        assert await store.latest(Line(ISSUER.id)) == large

    @ensure
    async def test_of_parts_and_deltas_are_lines_of_their_own(
        self, certificates: SqlCertificateStore, database: Database, clock: FixedClock
    ) -> None:
        """Complete and delta CRLs of a part share their numbers; other parts do not."""
        store = SqlCrlStore(database, clock)
        shard, delta = replace(crl(5), part=Part("4-1")), replace(crl(7), base=5)
        assert await store.publish(crl(5), 0)
        assert await store.publish(shard, 0)
        assert not await store.publish(delta, 0)
        assert await store.publish(delta, 5)
        assert not await store.publish(replace(crl(8), base=5), 5), "a delta follows deltas, too"
        for published in (crl(5), shard, delta):
            assert await store.latest(published.line) == published
            assert await store.latest_number(published.line) == published.number
        assert [await store.highest(ISSUER.id, part) for part in (ALL, Part("4-1"), CAS)] == [7, 5, 0]
        found = {each.line: (each.number, each.this_update) for each in await store.standing(ISSUER.id)}
        assert found == {each.line: (each.number, NOW) for each in (crl(5), shard, delta)}
        earlier = replace(crl(8), this_update=NOW - timedelta(days=300))  # the clock had been wrong
        assert not await store.publish(replace(earlier, number=6), 5)
        assert await store.publish(earlier, 5)
        found = {each.line: (each.number, each.this_update) for each in await store.standing(ISSUER.id)}
        assert found[earlier.line] == (8, earlier.this_update)

    @ensure
    async def test_a_delta_builds_on_one_that_clients_have(
        self, certificates: SqlCertificateStore, database: Database, clock: FixedClock
    ) -> None:
        store = SqlCrlStore(database, clock)
        day = timedelta(days=1)
        assert await store.base(ISSUER.id, NOW) is None
        for n in range(4):
            assert await store.publish(replace(crl(n + 1), this_update=NOW + n * day), n)
        assert await store.publish(replace(crl(9), base=1, this_update=NOW), 4)
        found = [await store.base(ISSUER.id, NOW + (n - 0.5) * day) for n in range(4)]
        assert [base and base.number for base in found] == [1, 1, 2, 3]


class TestSchemes:
    @ensure
    async def test_last_and_decide_which_crls_a_revocation_owes(
        self, certificates: SqlCertificateStore, database: Database, clock: FixedClock
    ) -> None:
        store, jobs = SqlCrlStore(database, clock), SqlJobStore(database, clock)
        first = await store.adopt_schemes(ISSUER.id, (Scheme("4", ("a",)), Scheme("delta", ("d",))), 60)
        assert set(first) == {Scheme("4", ("a",)), Scheme("delta", ("d",))}
        second = await store.adopt_schemes(ISSUER.id, (Scheme("4", ("b",)), Scheme("apart", ("a",))), 60)
        assert set(second) == {Scheme("4", ("b", "a")), Scheme("apart", ("a",))}, "those of old certificates stay"
        assert set(await store.schemes(ISSUER.id)) == set(second)
        await issue(certificates, 0x18005)
        await certificates.revoke(ISSUER.id, 0x18005, COMPROMISED, ANN)
        at_once = await jobs.claim(("crl",), "me", clock.now(), timedelta(minutes=5), 10)
        assert {job.key for job in at_once} == {f"{ISSUER.id}/4-2", f"{ISSUER.id}/users"}
        (later,) = await jobs.claim(("crl",), "me", clock.now() + timedelta(seconds=60), timedelta(minutes=5), 1)
        assert later.key == ISSUER.id


class TestEntries:
    @ensure
    async def test_are_the_issuers_revoked_in_lasting_order_until_they_expire(
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
        lasting = b"".join(encode_entry(serial, COMPROMISED) for serial in (0x100, 0xFF, 1 << 150))
        assert b"".join(await store.entries(ISSUER.id, ALL, NOW)) == encode_entry(3, superseded) + lasting
        assert b"".join(await store.entries(ISSUER.id, ALL, expiry)) == lasting
        assert await store.entries(ISSUER.id, ALL, expiry + SECOND) == ()
        assert b"".join(await store.entries(ISSUER.id, USERS, expiry)) == lasting
        assert await store.entries(ISSUER.id, CAS, expiry) == ()
        shards = [b"".join(await store.entries(ISSUER.id, part, expiry)) for part in (Part("256-0"), Part("256-1"))]
        small = encode_entry(0xFF, COMPROMISED) + encode_entry(1 << 150, COMPROMISED)
        assert shards == [small, encode_entry(0x100, COMPROMISED)]

    @ensure
    async def test_changes_are_what_was_recorded_since(
        self, certificates: SqlCertificateStore, database: Database, clock: FixedClock
    ) -> None:
        store = SqlCrlStore(database, clock)
        held = Revocation(NOW, RevocationReason.CERTIFICATE_HOLD)
        for serial in (5, 6, 7):
            await issue(certificates, serial)
        await certificates.revoke(ISSUER.id, 5, COMPROMISED, ANN)
        await certificates.revoke(ISSUER.id, 6, held, ANN)
        clock.advance(timedelta(hours=1))
        since = clock.now()
        await certificates.release(ISSUER.id, 6, held, ANN)
        await certificates.revoke(ISSUER.id, 7, COMPROMISED, ANN)
        changes = b"".join(await store.changes(ISSUER.id, since, NOW))
        assert changes == encode_removed_entry(6, NOW) + encode_entry(7, COMPROMISED)
        everything = set(entry_serials(b"".join(await store.changes(ISSUER.id, NOW, NOW))))
        assert everything == {5, 6, 7}
        assert await store.unexpected(ISSUER.id, frozenset((5, 6, 7, 8)), NOW) == {5, 7}


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
