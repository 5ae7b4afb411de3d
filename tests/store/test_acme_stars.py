"""The contract of `StarStore`, and a whole series with several workers, over every database."""

from __future__ import annotations

import dataclasses
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest_twisted
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Connection, func, select
from twisted.internet.defer import DeferredList, ensureDeferred

from opencertd.acme.auto_renewal import AutoRenewal
from opencertd.acme.star_store import RENEW, Canceling
from opencertd.acme.states import AccountStatus, AuthorizationStatus, Order, OrderStatus, Problem
from opencertd.acme.store import FINALIZE, About, AccountById, Beginning, Noun
from opencertd.asn1.pkcs10 import parse_csr
from opencertd.clock import FixedClock
from opencertd.model.certificates import CertificateRecord
from opencertd.store.acme import SqlAcmeStore
from opencertd.store.acme_stars import SqlStarStore
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.clean_up import SqlCleanUp
from opencertd.store.database import Database
from opencertd.store.jobs import SqlJobStore
from opencertd.store.schema import acme_renewals, jobs
from tests.acme.rig import Rig, issuers
from tests.acme.signing import csr_for, ec_key
from tests.store.values import ISSUER, NOW, ROOT, SECOND, account, issue, order

ensure = pytest_twisted.ensureDeferred
LEASE = timedelta(minutes=1)
DAY = timedelta(days=1)
END = NOW + 20 * DAY
RENEWAL = AutoRenewal(end=END, lifetime=4 * DAY, start=NOW, adjust=DAY, by_get=True)


@pytest_twisted.async_fixture
async def kept(database: Database, clock: FixedClock) -> list[CertificateRecord]:
    """Certificates that could be an order's."""
    store = SqlCertificateStore(database, clock)
    await store.add_issuers((ROOT, ISSUER))
    return [await issue(store, serial) for serial in (5, 6, 7)]


@pytest_twisted.async_fixture
async def store(database: Database, clock: FixedClock, kept: list[CertificateRecord]) -> SqlAcmeStore:
    """An order `o1` that is processing."""
    made = SqlAcmeStore(database, clock)
    await made.create_account(account())
    await made.create_order(dataclasses.replace(order("o1"), renewal=RENEWAL))
    await made.begin_finalize(Beginning("o1", b"csr", "w", NOW, LEASE, renews_from=NOW + SECOND))
    return made


async def found(store: SqlAcmeStore) -> Order:
    one = await store.order("o1")
    assert one is not None
    return one


async def owed(database: Database, clock: FixedClock, kind: str) -> list[str]:
    claimed = await SqlJobStore(database, clock).claim((kind,), "somebody", clock.now(), LEASE, 10)
    return [job.key for job in claimed]


@ensure
async def test_an_order_has_what_it_was_given(store: SqlAcmeStore) -> None:
    one = await found(store)
    assert (one.renewal, one.renews_from, one.status) == (RENEWAL, NOW + SECOND, OrderStatus.PROCESSING)
    begun = await store.begin(None, AccountById("ann"), About(Noun.ORDER, "o1"))
    assert begun.order == one


@ensure
async def test_the_first_ends_processing_and_owes_the_next(
    database: Database, store: SqlAcmeStore, clock: FixedClock, kept: list[CertificateRecord]
) -> None:
    stars = SqlStarStore(database, clock)
    before = await stars.published("o1")
    assert before is not None and (before.order_status, before.number) == (OrderStatus.PROCESSING, None)
    assert await stars.publish("o1", kept[0].id, 0, END, NOW + DAY)
    one = await found(store)
    assert (one.status, one.certificate_id, one.expires) == (OrderStatus.VALID, kept[0].id, END)
    clock.advance(2 * LEASE)
    assert await owed(database, clock, FINALIZE) == await owed(database, clock, RENEW) == []
    clock.advance(DAY)
    assert await owed(database, clock, RENEW) == ["o1"]
    now = await stars.published("o1")
    assert now is not None and (now.account_status, now.renewal) == (AccountStatus.VALID, RENEWAL)
    assert (now.order_status, now.number, now.renews_from) == (OrderStatus.VALID, 0, NOW + SECOND)
    assert (now.issuer_id, now.certificate_der) == (ISSUER.id, kept[0].certificate_der)
    assert (now.not_before, now.not_after) == (kept[0].not_before, kept[0].not_after)
    begun = await store.begin(None, AccountById("ann"), About(Noun.DOWNLOAD, "o1"))
    assert begun.download is not None and begun.download.renews


@ensure
async def test_a_newer_one_stays_whoever_comes_late(
    database: Database, store: SqlAcmeStore, clock: FixedClock, kept: list[CertificateRecord]
) -> None:
    stars = SqlStarStore(database, clock)
    assert await stars.publish("o1", kept[0].id, 0, END, None)
    assert await stars.publish("o1", kept[1].id, 2, END, None)
    assert await stars.publish("o1", kept[1].id, 2, END, None)  # said twice, it is the same
    assert not await stars.publish("o1", kept[2].id, 1, END, None)
    assert (await found(store)).certificate_id == kept[1].id
    assert [await stars.is_of_series(each.id) for each in kept] == [True] * 3
    assert not await stars.is_of_series(kept[2].id + 1)


@ensure
async def test_a_canceled_order_gets_nothing_more(
    database: Database, store: SqlAcmeStore, clock: FixedClock, kept: list[CertificateRecord]
) -> None:
    stars = SqlStarStore(database, clock)
    assert await stars.cancel("o1", NOW) is Canceling.NOT_VALID
    await stars.publish("o1", kept[0].id, 0, END, NOW)
    assert await stars.cancel("o1", NOW) is Canceling.DONE
    assert await stars.cancel("o1", NOW) is Canceling.NOT_VALID
    assert await owed(database, clock, RENEW) == []
    assert not await stars.publish("o1", kept[1].id, 1, END, NOW)
    await stars.give_up("o1", Problem("malformed", "late"))
    one = await found(store)
    assert (one.status, one.certificate_id, one.error) == (OrderStatus.CANCELED, kept[0].id, None)
    assert one.expires == kept[0].not_after


@ensure
async def test_an_order_is_not_canceled_under_a_workers_hands(
    database: Database, store: SqlAcmeStore, clock: FixedClock, kept: list[CertificateRecord]
) -> None:
    stars = SqlStarStore(database, clock)
    await stars.publish("o1", kept[0].id, 0, END, NOW)
    assert await owed(database, clock, RENEW) == ["o1"]
    assert await stars.cancel("o1", NOW + LEASE - SECOND) is Canceling.BUSY
    assert (await found(store)).status is OrderStatus.VALID
    assert await stars.cancel("o1", NOW + LEASE) is Canceling.DONE


@ensure
async def test_claim_and_cancel_at_once_have_one_winner(
    database: Database, store: SqlAcmeStore, clock: FixedClock, kept: list[CertificateRecord]
) -> None:
    stars = SqlStarStore(database, clock)
    await stars.publish("o1", kept[0].id, 0, END, NOW)
    deeds: list[Any] = [ensureDeferred(owed(database, clock, RENEW)), stars.cancel("o1", NOW)]
    (_, claimed), (_, outcome) = await DeferredList(deeds)
    assert (claimed, outcome) in (([], Canceling.DONE), (["o1"], Canceling.BUSY))


@ensure
async def test_what_is_given_up_says_why(
    database: Database, store: SqlAcmeStore, clock: FixedClock, kept: list[CertificateRecord]
) -> None:
    stars = SqlStarStore(database, clock)
    await stars.publish("o1", kept[0].id, 0, END, None)
    await stars.give_up("o1", Problem("caa", "not here"))
    one = await found(store)
    assert (one.status, one.error, one.expires) == (
        OrderStatus.INVALID,
        Problem("caa", "not here"),
        kept[0].not_after,
    )


@ensure
async def test_other_orders_are_none_of_it(
    database: Database, store: SqlAcmeStore, clock: FixedClock, kept: list[CertificateRecord]
) -> None:
    stars = SqlStarStore(database, clock)
    await store.create_order(order("o2"))
    await store.begin_finalize(Beginning("o2", b"csr", "w", NOW, LEASE))
    await store.complete_order("o2", kept[0].id)
    assert await stars.published("o2") is None and await stars.published("o3") is None
    assert await stars.cancel("o2", NOW) is Canceling.NOT_VALID
    assert not await stars.is_of_series(kept[0].id)


@ensure
async def test_it_stays_until_its_end_and_goes_with_all_that_is_its_own(
    database: Database, store: SqlAcmeStore, clock: FixedClock, kept: list[CertificateRecord]
) -> None:
    stars, clean_up = SqlStarStore(database, clock), SqlCleanUp(database)
    await stars.publish("o1", kept[0].id, 0, END, END)
    await stars.publish("o1", kept[1].id, 1, END, None)
    await clean_up.orders(END)
    assert (await found(store)).certificate_id == kept[1].id
    await clean_up.orders(END + SECOND)
    assert await store.order("o1") is None

    def rows(connection: Connection) -> list[int]:
        return [
            connection.execute(select(func.count()).select_from(each)).scalar_one() for each in (acme_renewals, jobs)
        ]

    assert await database.read(rows) == [0, 0]


@ensure
async def test_a_series_by_three_workers(database: Database, clock: FixedClock, tmp_path: Path) -> None:
    """All at each job, which is theirs by turns; each certificate comes once, in its time, and openssl likes it."""
    rigs = [Rig(database=database, clock=clock, owner=f"w{number}") for number in range(3)]
    clock.advance(rigs[0].authority.issuers.all()[0].certificate.not_valid_before_utc + 2 * DAY - clock.now())
    began = clock.now().replace(microsecond=0)
    end = began + 10 * DAY
    certificates = SqlCertificateStore(database, clock)
    await certificates.add_issuers(tuple(issuer.record for issuer in issuers().all()))
    store, stars = rigs[0].store, rigs[0].stars
    await store.create_account(account())
    made = order("o1", names=("a.example",))
    renewal = AutoRenewal(end=end, lifetime=DAY)
    proven = tuple(dataclasses.replace(each, status=AuthorizationStatus.VALID) for each in made.authorizations)
    await store.create_order(dataclasses.replace(made, renewal=renewal, authorizations=proven))
    csr = parse_csr(csr_for(ec_key(), "a.example"))
    await store.begin_finalize(Beginning("o1", csr.der, "w0", began, LEASE, renews_from=began))
    clock.advance(LEASE)  # w0 died at once: somebody else finds the job
    seen: dict[bytes, int] = {}
    while clock.now() < end:
        await DeferredList(
            [ensureDeferred(rig.work_off(f"w{number}")) for number, rig in enumerate(rigs)], fireOnOneErrback=True
        )
        now = await stars.published("o1")
        assert now is not None and now.certificate_der is not None and now.number is not None
        assert now.not_before is not None and now.not_after is not None
        assert now.not_before <= clock.now() <= now.not_after
        assert seen.setdefault(now.certificate_der, now.number) == now.number
        clock.advance(timedelta(hours=2))
    assert list(seen.values()) == list(range(10))
    assert len(await certificates.inventory(0, 100)) == 10
    issuer = next(each for each in issuers().all() if each.name == "ecdsa")
    (tmp_path / "ca.pem").write_bytes(issuer.certificate.public_bytes(Encoding.PEM))
    for number, der in enumerate(seen):
        (tmp_path / "leaf.der").write_bytes(der)
        middle = str(int((began + number * DAY).timestamp()) + 60)
        options = ("-attime", middle, "-partial_chain", "-CAfile", str(tmp_path / "ca.pem"))
        judged = run_openssl("verify", *options, "-verify_hostname", "a.example", str(tmp_path / "leaf.der"))
        assert judged.endswith(": OK\n")
    assert await rigs[0].work_off() == 0


def run_openssl(*arguments: str) -> str:
    return subprocess.run(["openssl", *arguments], capture_output=True, check=True).stdout.decode()
