"""What is past its use goes, what is in use stays, and the tables keep within their bounds."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from functools import partial

import pytest
import pytest_twisted
from sqlalchemy import BigInteger, Connection, Text, bindparam, func, insert, select, text

from opencertd.acme.states import ChallengeStatus, Problem
from opencertd.acme.store import VALIDATE, Beginning, UnusedNonce
from opencertd.clock import FixedClock
from opencertd.errors import RefusalKind
from opencertd.settings.limits import RetentionSettings
from opencertd.store.acme import SqlAcmeStore
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.clean_up import ORDERS, SqlCleanUp
from opencertd.store.database import Database
from opencertd.store.jobs import SqlJobStore
from opencertd.store.schema import metadata
from opencertd.store.status_tables import crls
from tests.store.values import ISSUER, NOW, ROOT, SECOND, account, issue, order, refused

ensure = pytest_twisted.ensureDeferred
DAY = timedelta(days=1)
LEASE = timedelta(seconds=60)
END = NOW + timedelta(days=7)
"""When orders of `values.order` expire."""


@pytest_twisted.async_fixture
async def store(database: Database, clock: FixedClock) -> SqlAcmeStore:
    made = SqlAcmeStore(database, clock)
    await made.create_account(account())
    return made


@pytest.fixture
def clean_up(database: Database, clock: FixedClock) -> SqlCleanUp:
    return SqlCleanUp(database)


async def counts(database: Database) -> dict[str, int]:
    """Rows of each table."""

    def read(connection: Connection) -> dict[str, int]:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in metadata.sorted_tables
        }

    return await database.read(read)


@ensure
async def test_an_order_goes_with_all_below_it_and_its_jobs(
    database: Database, store: SqlAcmeStore, clean_up: SqlCleanUp
) -> None:
    await store.create_order(order("o1"))
    await store.create_order(order("o2"))
    assert await store.begin_validation("o1-a0-http-01", NOW) is not None
    assert not await clean_up.orders(END)
    assert await store.order("o1") is not None
    assert not await clean_up.orders(END + SECOND)
    found = await counts(database)
    left = {name: found[name] for name in ("acme_orders", "acme_authorizations", "acme_challenges", "jobs")}
    assert set(left.values()) == {0}
    assert found["acme_accounts"] == 1


@ensure
async def test_an_authorization_of_no_order_goes_when_it_has_ended(
    database: Database, store: SqlAcmeStore, clean_up: SqlCleanUp
) -> None:
    (made, _) = order("o1").authorizations
    challenges = tuple(dataclasses.replace(each, id=f"z-{each.id}", authorization_id="z") for each in made.challenges)
    alone = dataclasses.replace(made, id="z", challenges=challenges)
    await store.create_authorization(alone)
    assert await store.begin_validation(challenges[0].id, NOW) is not None
    assert not await clean_up.authorizations(alone.expires)
    assert await store.authorization("z") == dataclasses.replace(
        alone, challenges=(dataclasses.replace(challenges[0], status=ChallengeStatus.PROCESSING), *challenges[1:])
    )
    assert not await clean_up.authorizations(alone.expires + SECOND)
    found = await counts(database)
    assert {found[name] for name in ("acme_authorizations", "acme_challenges", "jobs")} == {0}


@ensure
async def test_the_job_of_a_challenge_that_stays_stays(
    database: Database, store: SqlAcmeStore, clean_up: SqlCleanUp, clock: FixedClock
) -> None:
    await store.create_order(order("o1"))
    await store.begin_validation("o1-a0-http-01", NOW)
    await clean_up.orders(END)
    (job,) = await SqlJobStore(database, clock).claim((VALIDATE,), "w", NOW, LEASE, 10)
    assert job.key == "o1-a0-http-01"


@ensure
async def test_an_order_stays_as_long_as_its_certificate(
    database: Database, store: SqlAcmeStore, clean_up: SqlCleanUp, clock: FixedClock
) -> None:
    kept = SqlCertificateStore(database, clock)
    await kept.add_issuers((ROOT, ISSUER))
    certificate = await issue(kept, 5)
    await store.create_order(order("o1"))
    await store.begin_finalize(Beginning("o1", b"csr", "w", NOW, LEASE))
    await store.complete_order("o1", certificate.id)
    await clean_up.orders(certificate.not_after)
    assert await store.certificate_account(certificate.id) == "ann"
    await clean_up.orders(certificate.not_after + SECOND)
    assert await store.order("o1") is None
    assert await kept.by_serial(5) == (certificate,)


@ensure
async def test_an_order_in_processing_is_its_jobs(store: SqlAcmeStore, clean_up: SqlCleanUp) -> None:
    await store.create_order(order("o1"))
    await store.begin_finalize(Beginning("o1", b"csr", "w", NOW, LEASE))
    await clean_up.orders(END + 1000 * DAY)
    assert await store.order("o1") is not None
    await store.fail_order("o1", Problem("serverInternal", "too late"))
    await clean_up.orders(END + SECOND)
    assert await store.order("o1") is None


@ensure
async def test_used_nonces_are_forgotten_only_after_they_expire(store: SqlAcmeStore, clean_up: SqlCleanUp) -> None:
    half = timedelta(milliseconds=700)
    await store.redeem_nonce(UnusedNonce("n", NOW + half))
    await clean_up.nonces(NOW + half)
    assert (await refused(store.redeem_nonce(UnusedNonce("n", NOW)))).kind is RefusalKind.BAD_NONCE
    await clean_up.nonces(NOW + SECOND)
    await store.redeem_nonce(UnusedNonce("n", NOW))


@ensure
async def test_the_newest_crl_stays_however_old(database: Database, clean_up: SqlCleanUp, clock: FixedClock) -> None:
    await SqlCertificateStore(database, clock).add_issuers((ROOT, ISSUER))

    def publish(connection: Connection) -> None:
        for issuer, number, until in ((ISSUER, 1, 1), (ISSUER, 2, 9), (ISSUER, 3, 2), (ROOT, 1, 1)):
            times = {"this_update": NOW, "next_update": NOW + until * DAY}
            connection.execute(insert(crls).values(issuer_id=issuer.id, number=number, crl_der=b"", **times))

    await database.write(publish)
    await clean_up.crls(NOW + 5 * DAY)
    left = await database.read(lambda connection: connection.execute(select(crls.c.issuer_id, crls.c.number)).all())
    assert sorted(map(tuple, left)) == [(ROOT.id, 1), (ISSUER.id, 2), (ISSUER.id, 3)]


@ensure
async def test_a_batch_says_whether_there_may_be_more(
    database: Database, store: SqlAcmeStore, clean_up: SqlCleanUp
) -> None:
    await database.write(lambda connection: orders_of_a_day(connection, 1, ORDERS + 1, NOW))
    assert await clean_up.orders(NOW + 100 * DAY)
    assert (await counts(database))["acme_orders"] == 1
    assert not await clean_up.orders(NOW + 100 * DAY)
    assert (await counts(database))["acme_orders"] == 0


NUMBERS = "WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i < :last) "
CERTIFIED = "i % 3 < :certified"
LIFE = f"CASE WHEN {CERTIFIED} THEN 7776000 ELSE 604800 END"
BULK = (
    "INSERT INTO certificates (id, issuer_id, serial, state, profile, requester, requester_label, subject, names,"
    f" spki_sha256, not_before, not_after, owner, intended_at) {NUMBERS} SELECT i, :issuer, 's' || i, 'issued', 'p',"
    f" 'acme:ann', 'ann', '', '[]', 'k' || i, :at, :at + 7776000, 'w', :at FROM n WHERE {CERTIFIED}",
    "INSERT INTO acme_orders (id, account_id, profile, names, status, expires, created_at, certificate_id,"
    f" useful_until) {NUMBERS} SELECT 'o' || i, 'ann', 'p', '[]', CASE WHEN {CERTIFIED} THEN 'valid' ELSE 'invalid'"
    f" END, :at + 604800, :at, CASE WHEN {CERTIFIED} THEN i ELSE NULL END, :at + {LIFE} FROM n",
    f"INSERT INTO acme_authorizations (id, order_id, position, account_id, name, wildcard, status, expires) {NUMBERS}"
    " SELECT 'a' || i, 'o' || i, 0, 'ann', '[[\"dns\",\"a.example\"]]', i < 0, 'valid', :at + 604800 FROM n",
    f"INSERT INTO acme_challenges (id, authorization_id, position, type, token, status) {NUMBERS}"
    " SELECT 'c' || i || '-' || k, 'a' || i, k, 'http-01', 't', 'pending' FROM n,"
    " (SELECT 0 AS k UNION ALL SELECT 1 UNION ALL SELECT 2) AS t",
    f"INSERT INTO acme_nonces (nonce, expires) {NUMBERS} SELECT 'n' || i, :at + 4200 FROM n",
    f"INSERT INTO jobs (kind, key, run_at, generation, attempts, failures) {NUMBERS}"
    " SELECT 'acme-validate', 'c' || i || '-0', 1000 * :at, 1, 1, 0 FROM n WHERE i % 50 = 0",
)


def orders_of_a_day(connection: Connection, first: int, count: int, day: datetime, *, certified: int = 0) -> None:
    """`count` orders, each with an authorization, three challenges and a nonce; every 50th has a job nobody did.

    `certified`: how many of three have a certificate for 90 days.
    """
    at = int(day.timestamp())
    given = {"first": first, "last": first + count - 1, "at": at, "issuer": ISSUER.id, "certified": certified}
    for statement in BULK:
        used = {name: value for name, value in given.items() if f":{name}" in statement}
        types = [bindparam(name, type_=Text if name == "issuer" else BigInteger) for name in used]
        connection.execute(text(statement).bindparams(*types), used)


ORDERS_A_YEAR = 100_000
STEP = 5 * DAY
STEPS = 73


@ensure
async def test_a_year_leaves_the_tables_within_their_bounds(
    database: Database, store: SqlAcmeStore, clean_up: SqlCleanUp, clock: FixedClock
) -> None:
    """10^5 orders, two thirds with certificates for 90 days: what is kept is what a retention's time brings."""
    await SqlCertificateStore(database, clock).add_issuers((ROOT, ISSUER))
    each = ORDERS_A_YEAR // STEPS + 1
    settings = RetentionSettings()
    certified = (90 + settings.orders_days) // STEP.days + 2
    others = (7 + settings.orders_days) // STEP.days + 2
    bound = each * (2 * certified + others) // 3 + each
    most: dict[str, int] = {}
    for step in range(STEPS):
        first = 1 + step * each
        fill = partial(orders_of_a_day, first=first, count=each, day=clock.now(), certified=2)
        await database.write(fill)
        clock.advance(STEP)
        await clean_everything(clean_up, settings, clock.now())
        found = await counts(database)
        most = {name: max(count, most.get(name, 0)) for name, count in found.items()}
        assert found["acme_orders"] <= bound
        assert found["acme_challenges"] == 3 * found["acme_authorizations"] == 3 * found["acme_orders"]
        assert found["jobs"] <= found["acme_orders"] // 50 + 1
        assert found["acme_nonces"] == 0
    assert most["acme_orders"] < ORDERS_A_YEAR // 3
    assert found["certificates"] > ORDERS_A_YEAR * 0.66  # they are what the CA answers for
    clock.advance(timedelta(days=365))
    await clean_everything(clean_up, settings, clock.now())
    found = await counts(database)
    assert [found[name] for name in ("acme_orders", "acme_authorizations", "acme_challenges", "jobs")] == [0] * 4


async def clean_everything(clean_up: SqlCleanUp, settings: RetentionSettings, now: datetime) -> None:
    while await clean_up.orders(now - timedelta(days=settings.orders_days)):
        pass
    while await clean_up.nonces(now):
        pass
