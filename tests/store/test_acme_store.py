"""The contract of `AcmeStore`, over every database."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from itertools import pairwise

import pytest_twisted
from sqlalchemy import Connection
from twisted.internet.defer import DeferredList

from opencertd.acme.reuse import Reuse
from opencertd.acme.states import (
    Account,
    AccountStatus,
    AuthorizationStatus,
    ChallengeStatus,
    Order,
    OrderStatus,
    Problem,
)
from opencertd.acme.store import (
    FINALIZE,
    VALIDATE,
    About,
    AccountById,
    AccountByKey,
    Beginning,
    Begun,
    Download,
    Noun,
    UnusedNonce,
)
from opencertd.clock import FixedClock
from opencertd.errors import Refusal, RefusalKind
from opencertd.jobs.store import Job
from opencertd.store.acme import SqlAcmeStore
from opencertd.store.acme_accounts import MOST_PRIOR_KEYS
from opencertd.store.acme_proofs import PROOFS
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from opencertd.store.jobs import SqlJobStore
from tests.store.values import ISSUER, NOW, ROOT, SECOND, account, dns, issue, order, refusal_kind, refused

ensure = pytest_twisted.ensureDeferred

LEASE = timedelta(minutes=1)
PROBLEM = Problem("connection", "nobody answered")


@pytest_twisted.async_fixture
async def store(database: Database, clock: FixedClock) -> SqlAcmeStore:
    made = SqlAcmeStore(database, clock)
    await made.create_account(account())
    return made


async def owed(database: Database, kind: str, *, at: timedelta = timedelta()) -> list[Job]:
    jobs = SqlJobStore(database, FixedClock(NOW))
    return list(await jobs.claim((kind,), "somebody", NOW + at, LEASE, 10))


def nonce(text: str, forget_at: datetime = NOW) -> UnusedNonce:
    return UnusedNonce(text, forget_at)


async def account_of(store: SqlAcmeStore, who: AccountById | AccountByKey) -> Account | None:
    return (await store.begin(None, who)).account


class TestNonces:
    @ensure
    async def test_are_redeemed_once_with_what_is_read(self, store: SqlAcmeStore) -> None:
        ann = AccountById("ann")
        assert await store.begin(nonce("n1"), ann) == Begun(account())
        assert await store.begin(nonce("n2"), AccountByKey("thumb-ann")) == Begun(account())
        assert await store.begin(nonce("n3"), AccountById("nobody")) == Begun()
        await store.redeem_nonce(nonce("n4"))
        for text in ("n1", "n2", "n3", "n4"):
            assert await refusal_kind(store.begin(nonce(text), ann)) is RefusalKind.BAD_NONCE
            assert await refusal_kind(store.redeem_nonce(nonce(text))) is RefusalKind.BAD_NONCE

    @ensure
    async def test_raced_are_redeemed_once(self, store: SqlAcmeStore) -> None:
        raced = await DeferredList([store.begin(nonce("n"), AccountById("ann")) for _ in range(20)], consumeErrors=True)
        assert [won for won, _ in raced].count(True) == 1


class TestBegin:
    @ensure
    async def test_reads_what_the_request_is_about(self, store: SqlAcmeStore) -> None:
        made = order()
        await store.create_order(made)
        first, who = made.authorizations[0], AccountById("ann")
        about_order = await store.begin(nonce("n1"), who, About(Noun.ORDER, "o1"))
        assert about_order == Begun(account(), order=made)
        for about in (About(Noun.AUTHORIZATION, first.id), About(Noun.CHALLENGE, first.challenges[0].id)):
            assert await store.begin(None, who, about) == Begun(account(), authorization=first)

    @ensure
    async def test_answers_none_for_what_there_is_not(self, store: SqlAcmeStore) -> None:
        await store.create_order(order())
        for noun in Noun:
            assert await store.begin(None, AccountById("ann"), About(noun, "none")) == Begun(account())
            assert await store.begin(None, AccountById("nobody"), About(noun, "o1")) == Begun()

    @ensure
    async def test_reads_nothing_for_a_used_nonce(self, store: SqlAcmeStore) -> None:
        await store.redeem_nonce(nonce("n"))
        asked = store.begin(nonce("n"), AccountById("ann"), About(Noun.ORDER, "o1"))
        assert await refusal_kind(asked) is RefusalKind.BAD_NONCE


class TestAccounts:
    @ensure
    async def test_one_exists_per_key(self, store: SqlAcmeStore) -> None:
        bob = account("bob", "thumb-bob", contact=())
        assert await store.create_account(bob) == (bob, True)
        assert await store.create_account(account("eve", "thumb-bob")) == (bob, False)
        assert await account_of(store, AccountById("eve")) is None

    @ensure
    async def test_raced_creations_have_one_winner(self, store: SqlAcmeStore) -> None:
        raced = await DeferredList(
            [store.create_account(account(f"bob-{n}", "thumb-bob")) for n in range(20)], fireOnOneErrback=True
        )
        assert len({found.id for _, (found, _created) in raced}) == 1
        assert [created for _, (_found, created) in raced].count(True) == 1

    @ensure
    async def test_change_what_is_given(self, store: SqlAcmeStore) -> None:
        changed = await store.update_account("ann", contact=("mailto:a@example.com", "mailto:b@example.com"))
        assert changed == account(contact=("mailto:a@example.com", "mailto:b@example.com"))
        assert await store.update_account("ann") == changed
        assert (await store.update_account("ann", contact=())).contact == ()

    @ensure
    async def test_do_not_change_once_deactivated(self, store: SqlAcmeStore) -> None:
        ended = await store.update_account("ann", status=AccountStatus.DEACTIVATED)
        assert ended == account(status=AccountStatus.DEACTIVATED)
        assert await refusal_kind(store.update_account("ann", contact=())) is RefusalKind.UNAUTHORIZED
        swap = store.change_key("ann", "thumb-ann", {}, "thumb-new")
        assert await refusal_kind(swap) is RefusalKind.UNAUTHORIZED
        assert await account_of(store, AccountById("ann")) == ended

    @ensure
    async def test_unknown_ones_are_not_found(self, store: SqlAcmeStore) -> None:
        assert await refusal_kind(store.update_account("nobody", contact=())) is RefusalKind.NOT_FOUND
        assert await refusal_kind(store.change_key("nobody", "x", {}, "y")) is RefusalKind.NOT_FOUND

    @ensure
    async def test_swap_their_key(self, store: SqlAcmeStore) -> None:
        swapped = await store.change_key("ann", "thumb-ann", {"kty": "RSA"}, "thumb-new")
        assert swapped == account(jwk={"kty": "RSA"}, thumbprint="thumb-new")
        assert await account_of(store, AccountByKey("thumb-new")) == swapped
        assert await account_of(store, AccountByKey("thumb-ann")) is None
        late = store.change_key("ann", "thumb-ann", {}, "thumb-newer")
        assert await refusal_kind(late) is RefusalKind.UNAUTHORIZED

    @ensure
    async def test_remember_every_key_they_had_the_latest_first(self, store: SqlAcmeStore, clock: FixedClock) -> None:
        assert await store.prior_keys("ann") == ()
        keys = ["thumb-ann", "thumb-2", "thumb-3", "thumb-ann"]
        for old, new in pairwise(keys):
            clock.advance(timedelta(milliseconds=5))
            await store.change_key("ann", old, {}, new)
        assert await store.prior_keys("ann") == ("thumb-3", "thumb-2", "thumb-ann")
        clock.advance(timedelta(milliseconds=5))
        await store.change_key("ann", "thumb-ann", {}, "thumb-4")
        assert await store.prior_keys("ann") == ("thumb-ann", "thumb-3", "thumb-2")
        await store.create_account(account("bob", "thumb-bob"))
        assert await refusal_kind(store.change_key("bob", "wrong", {}, "thumb-5")) is RefusalKind.UNAUTHORIZED
        assert await store.prior_keys("bob") == ()

    @ensure
    async def test_remember_no_more_keys_than_anybody_needs(self, store: SqlAcmeStore, clock: FixedClock) -> None:
        names = ["thumb-ann", *(f"thumb-{n}" for n in range(MOST_PRIOR_KEYS + 5))]
        for old, new in pairwise(names):
            clock.advance(timedelta(milliseconds=5))
            await store.change_key("ann", old, {}, new)
        assert await store.prior_keys("ann") == tuple(reversed(names[:-1]))[:MOST_PRIOR_KEYS]

    @ensure
    async def test_do_not_take_anothers_key(self, store: SqlAcmeStore) -> None:
        await store.create_account(account("bob", "thumb-bob"))
        conflict = await refused(store.change_key("ann", "thumb-ann", {}, "thumb-bob"))
        assert (conflict.kind, conflict.location) == (RefusalKind.CONFLICT, "bob")

    @ensure
    async def test_raced_for_one_new_key_have_one_winner(self, store: SqlAcmeStore) -> None:
        for n in range(12):
            await store.create_account(account(f"bob-{n}", f"thumb-{n}"))
        raced = await DeferredList(
            [store.change_key(f"bob-{n}", f"thumb-{n}", {}, "thumb-new") for n in range(12)], consumeErrors=True
        )
        won = [result.id for success, result in raced if success]
        assert len(won) == 1
        for success, failure in raced:
            if not success:
                assert isinstance(failure.value, Refusal)
                assert (failure.value.kind, failure.value.location) == (RefusalKind.CONFLICT, won[0])


class TestOrders:
    @ensure
    async def test_come_back_as_kept(self, store: SqlAcmeStore) -> None:
        made = order()
        await store.create_order(made)
        assert await store.order("o1") == made
        assert await store.order("none") is None
        for authorization in made.authorizations:
            assert await store.authorization(authorization.id) == authorization
            for challenge in authorization.challenges:
                assert await store.challenge(challenge.id) == (challenge, authorization, account())
        assert await store.authorization("none") is None
        assert await store.challenge("none") is None

    @ensure
    async def test_of_an_account_come_in_pages_oldest_first(self, store: SqlAcmeStore) -> None:
        await store.create_account(account("bob", "thumb-bob"))
        for order_id, owner in (("z", "ann"), ("b", "bob"), ("a", "ann"), ("m", "ann")):
            await store.create_order(order(order_id, owner))
        assert await store.orders_of("ann", None, 2) == ("z", "a")
        assert await store.orders_of("ann", "a", 2) == ("m",)
        assert await store.orders_of("ann", "m", 2) == ()
        assert await store.orders_of("ann", "b", 2) == ()  # not hers: tells nothing
        assert await store.orders_of("bob", None, 9) == ("b",)

    @ensure
    async def test_that_are_invalid_are_not_listed(self, store: SqlAcmeStore) -> None:
        for order_id in ("given-up", "failed", "over", "late", "begun", "good"):
            await store.create_order(order(order_id, "ann"))
        await store.deactivate_authorization("given-up-a0")
        assert await store.orders_of("ann", "given-up", 1) == ("failed",)
        await store.begin_finalize(Beginning("failed", b"csr", "node/0", NOW, LEASE))
        await store.fail_order("failed", Problem("badCSR", "no"))
        await store.begin_finalize(Beginning("begun", b"csr", "node/0", NOW, LEASE))
        assert await store.orders_of("ann", None, 9) == ("over", "late", "begun", "good")


class TestValidation:
    @ensure
    async def test_begins_once_and_is_owed(self, store: SqlAcmeStore, database: Database) -> None:
        await store.create_order(order())
        owed_now = await store.begin_validation("o1-a0-http-01", NOW)
        begun = await store.authorization("o1-a0")
        assert begun is not None
        assert [one.status for one in begun.challenges] == [ChallengeStatus.PROCESSING, ChallengeStatus.PENDING]
        assert begun.status is AuthorizationStatus.PENDING
        assert await store.begin_validation("o1-a0-http-01", NOW + SECOND) is None
        assert await store.begin_validation("none", NOW) is None
        (job,) = await owed(database, VALIDATE)
        assert (job.key, job.run_at, job.generation) == ("o1-a0-http-01", NOW, 1)
        assert owed_now == dataclasses.replace(job, attempts=0)

    @ensure
    async def test_begins_with_a_leased_job(self, store: SqlAcmeStore, database: Database) -> None:
        await store.create_order(order())
        job = await store.begin_validation("o1-a0-http-01", NOW, owner="node/0", lease=LEASE)
        assert job == Job(VALIDATE, "o1-a0-http-01", NOW, generation=1, attempts=1)
        assert await owed(database, VALIDATE) == []
        (claimed,) = await owed(database, VALIDATE, at=LEASE)  # its worker died
        assert claimed.key == job.key

    @ensure
    async def test_the_verdict_is_the_end_of_the_job(self, store: SqlAcmeStore, database: Database) -> None:
        await store.create_order(order())
        await store.begin_validation("o1-a0-http-01", NOW, owner="node/0", lease=LEASE)
        await store.settle_challenge("o1-a0-http-01", PROBLEM, NOW)
        assert await owed(database, VALIDATE, at=LEASE) == []

    @ensure
    async def test_success_makes_the_authorization_valid(self, store: SqlAcmeStore) -> None:
        await store.create_order(order())
        await store.begin_validation("o1-a0-http-01", NOW)
        assert await store.settle_challenge("o1-a0-http-01", None, NOW + SECOND)
        settled = await store.authorization("o1-a0")
        assert settled is not None
        assert settled.status is AuthorizationStatus.VALID
        assert (settled.challenges[0].status, settled.challenges[0].validated_at) == (
            ChallengeStatus.VALID,
            NOW + SECOND,
        )
        found = await store.order("o1")
        assert found is not None
        assert found.authorizations[0] == settled
        assert found.authorizations[1].status is AuthorizationStatus.PENDING

    @ensure
    async def test_failure_makes_it_invalid_with_its_problem(self, store: SqlAcmeStore) -> None:
        await store.create_order(order())
        await store.begin_validation("o1-a0-http-01", NOW)
        assert await store.settle_challenge("o1-a0-http-01", PROBLEM, NOW)
        settled = await store.authorization("o1-a0")
        assert settled is not None
        assert settled.status is AuthorizationStatus.INVALID
        first = settled.challenges[0]
        assert (first.status, first.error, first.validated_at) == (ChallengeStatus.INVALID, PROBLEM, None)

    @ensure
    async def test_is_settled_once(self, store: SqlAcmeStore) -> None:
        await store.create_order(order())
        assert not await store.settle_challenge("o1-a0-http-01", None, NOW)  # not begun
        await store.begin_validation("o1-a0-http-01", NOW)
        assert await store.settle_challenge("o1-a0-http-01", PROBLEM, NOW)
        settled = await store.authorization("o1-a0")
        assert not await store.settle_challenge("o1-a0-http-01", None, NOW)
        assert await store.authorization("o1-a0") == settled
        assert not await store.settle_challenge("none", None, NOW)

    @ensure
    async def test_an_attempt_that_failed_shows_its_error_and_since_when(self, store: SqlAcmeStore) -> None:
        await store.create_order(order())
        noted = dataclasses.replace(PROBLEM, since=NOW)
        await store.note_attempt("o1-a0-http-01", noted)  # not begun: nothing
        await store.begin_validation("o1-a0-http-01", NOW)
        await store.note_attempt("o1-a0-http-01", noted)
        found = await store.authorization("o1-a0")
        assert found is not None and found.status is AuthorizationStatus.PENDING
        assert [(one.status, one.error) for one in found.challenges] == [
            (ChallengeStatus.PROCESSING, noted),
            (ChallengeStatus.PENDING, None),
        ]
        assert await store.settle_challenge("o1-a0-http-01", None, NOW)
        settled = await store.authorization("o1-a0")
        await store.note_attempt("o1-a0-http-01", noted)
        assert await store.authorization("o1-a0") == settled
        assert settled is not None and settled.challenges[0].error is None

    @ensure
    async def test_another_attempt_is_owed_sooner_while_there_is_something_to_settle(
        self, store: SqlAcmeStore, database: Database
    ) -> None:
        await store.create_order(order())
        await store.try_again("o1-a0-http-01", NOW)
        assert await owed(database, VALIDATE) == []  # not begun
        await store.begin_validation("o1-a0-http-01", NOW + 60 * SECOND)
        await store.try_again("o1-a0-http-01", NOW)
        (job,) = await owed(database, VALIDATE)
        assert (job.key, job.run_at) == ("o1-a0-http-01", NOW)
        await store.try_again("o1-a0-http-01", NOW + SECOND)
        await store.settle_challenge("o1-a0-http-01", PROBLEM, NOW)
        await store.try_again("o1-a0-http-01", NOW)
        await store.try_again("none", NOW)
        assert await owed(database, VALIDATE, at=LEASE) == []

    @ensure
    async def test_a_proof_with_an_end_shortens_the_authorization_and_never_lengthens_it(
        self, store: SqlAcmeStore
    ) -> None:
        await store.create_order(order())
        before = await store.authorization("o1-a0")
        await store.begin_validation("o1-a0-http-01", NOW)
        assert await store.settle_challenge("o1-a0-http-01", NOW + SECOND, NOW)
        settled = await store.authorization("o1-a0")
        assert settled is not None
        assert (settled.status, settled.expires) == (AuthorizationStatus.VALID, NOW + SECOND)
        other = await store.authorization("o1-a1")
        await store.begin_validation("o1-a1-http-01", NOW)
        assert await store.settle_challenge("o1-a1-http-01", NOW.replace(year=9999), NOW)
        settled = await store.authorization("o1-a1")
        assert before is not None and other is not None and settled is not None
        assert settled.expires == other.expires == before.expires

    @ensure
    async def test_does_not_begin_for_a_settled_authorization(self, store: SqlAcmeStore, database: Database) -> None:
        await store.create_order(order())
        await store.begin_validation("o1-a0-http-01", NOW)
        assert await store.settle_challenge("o1-a0-http-01", None, NOW)
        settled = await store.authorization("o1-a0")
        await owed(database, VALIDATE)
        assert await store.begin_validation("o1-a0-dns-01", NOW) is None
        assert await store.authorization("o1-a0") == settled
        assert await owed(database, VALIDATE) == []

    @ensure
    async def test_the_first_verdict_counts_when_two_challenges_race(self, store: SqlAcmeStore) -> None:
        await store.create_order(order())
        for kind in ("http-01", "dns-01"):
            await store.begin_validation(f"o1-a0-{kind}", NOW)
        await DeferredList(
            [store.settle_challenge("o1-a0-http-01", None, NOW), store.settle_challenge("o1-a0-dns-01", PROBLEM, NOW)],
            fireOnOneErrback=True,
        )
        settled = await store.authorization("o1-a0")
        assert settled is not None
        assert settled.status in {AuthorizationStatus.VALID, AuthorizationStatus.INVALID}
        assert [one.status for one in settled.challenges] == [ChallengeStatus.VALID, ChallengeStatus.INVALID]

    @ensure
    async def test_deactivation_is_final(self, store: SqlAcmeStore) -> None:
        await store.create_order(order())
        await store.begin_validation("o1-a0-http-01", NOW)
        ended = await store.deactivate_authorization("o1-a0")
        assert ended.status is AuthorizationStatus.DEACTIVATED
        assert await store.settle_challenge("o1-a0-http-01", None, NOW)
        late = await store.authorization("o1-a0")
        assert late is not None
        assert late.status is AuthorizationStatus.DEACTIVATED
        assert await store.deactivate_authorization("o1-a0") == late
        assert await refusal_kind(store.deactivate_authorization("none")) is RefusalKind.NOT_FOUND

    @ensure
    async def test_deactivation_leaves_the_invalid_invalid(self, store: SqlAcmeStore) -> None:
        await store.create_order(order())
        await store.begin_validation("o1-a0-http-01", NOW)
        assert await store.settle_challenge("o1-a0-http-01", PROBLEM, NOW)
        settled = await store.authorization("o1-a0")
        assert await store.deactivate_authorization("o1-a0") == settled


class TestFinalize:
    @ensure
    async def test_begins_once_with_a_leased_job(self, store: SqlAcmeStore, database: Database) -> None:
        await store.create_order(order())
        assert await store.begin_finalize(Beginning("o1", b"csr", "node/0", NOW, LEASE))
        assert not await store.begin_finalize(Beginning("o1", b"other", "node/1", NOW, LEASE))
        assert not await store.begin_finalize(Beginning("none", b"csr", "node/0", NOW, LEASE))
        found = await store.order("o1")
        assert found == dataclasses.replace(order(), status=OrderStatus.PROCESSING, csr_der=b"csr")
        assert await owed(database, FINALIZE) == []
        (job,) = await owed(database, FINALIZE, at=LEASE)  # its worker died
        assert (job.key, job.run_at) == ("o1", NOW)

    @ensure
    async def test_raced_has_one_winner(self, store: SqlAcmeStore) -> None:
        await store.create_order(order())
        raced = [store.begin_finalize(Beginning("o1", b"%d" % n, f"node/{n}", NOW, LEASE)) for n in range(20)]
        won = [won for _, won in await DeferredList(raced, fireOnOneErrback=True)]
        assert won.count(True) == 1
        found = await store.order("o1")
        assert found is not None
        assert found.csr_der == b"%d" % won.index(True)

    @ensure
    async def test_completes_and_knows_whose_certificate_it_is(
        self, store: SqlAcmeStore, database: Database, clock: FixedClock
    ) -> None:
        certificates = SqlCertificateStore(database, clock)
        await certificates.add_issuers((ROOT, ISSUER))
        certificate = await issue(certificates, 1)
        await store.create_order(order())
        await store.complete_order("o1", certificate.id)  # not PROCESSING: nothing
        assert await store.order("o1") == order()
        await store.begin_finalize(Beginning("o1", b"csr", "node/0", NOW, LEASE))
        download = About(Noun.DOWNLOAD, "o1")
        early = Begun(account(), download=Download("ann", None, None))
        assert await store.begin(None, AccountById("ann"), download) == early
        await store.complete_order("o1", certificate.id)
        there = Download("ann", certificate.issuer_id, certificate.certificate_der)
        assert await store.begin(None, AccountById("ann"), download) == Begun(account(), download=there)
        found = await store.order("o1")
        assert found is not None
        assert (found.status, found.certificate_id) == (OrderStatus.VALID, certificate.id)
        assert await owed(database, FINALIZE, at=LEASE) == []
        assert await store.certificate_account(certificate.id) == "ann"
        assert await store.certificate_account(certificate.id + 1) is None
        await store.fail_order("o1", PROBLEM)
        assert await store.order("o1") == found

    @ensure
    async def test_fails_with_its_problem(self, store: SqlAcmeStore, database: Database) -> None:
        await store.create_order(order())
        await store.fail_order("o1", PROBLEM)  # not PROCESSING: nothing
        assert await store.order("o1") == order()
        await store.begin_finalize(Beginning("o1", b"csr", "node/0", NOW, LEASE))
        await store.fail_order("o1", PROBLEM)
        found = await store.order("o1")
        assert found is not None
        assert (found.status, found.error) == (OrderStatus.INVALID, PROBLEM)
        assert await owed(database, FINALIZE, at=LEASE) == []


@ensure
async def test_a_certificate_is_replaced_by_one_order_that_was_finalized(store: SqlAcmeStore) -> None:
    def replacing(order_id: str) -> Order:
        return dataclasses.replace(order(order_id), replaces="aki.serial")

    for order_id in ("o1", "o2", "o3"):
        await store.create_order(replacing(order_id))
    assert await store.order("o1") == replacing("o1")
    await store.begin_finalize(Beginning("o1", b"csr", "node/0", NOW, LEASE))
    assert await refusal_kind(store.create_order(replacing("o4"))) is RefusalKind.ALREADY_REPLACED
    assert await store.order("o4") is None
    await store.create_order(dataclasses.replace(order("o5"), replaces="aki.other"))
    await store.fail_order("o1", PROBLEM)
    await store.create_order(replacing("o6"))


@ensure
async def test_an_authorization_may_belong_to_no_order(store: SqlAcmeStore) -> None:
    (made, _) = order("o1").authorizations
    for name in ("z1", "z2"):
        challenges = tuple(
            dataclasses.replace(each, id=f"{name}-{each.id}", authorization_id=name) for each in made.challenges
        )
        alone = dataclasses.replace(made, id=name, challenges=challenges, subdomains=True)
        await store.create_authorization(alone)
        assert await store.authorization(name) == alone


@ensure
async def test_proofs_are_copied_into_orders_and_end_together(store: SqlAcmeStore) -> None:
    await store.create_order(order("o1"))
    for challenge in ("o1-a0-dns-01", "o1-a1-dns-01"):
        await store.begin_validation(challenge, NOW)
        await store.settle_challenge(challenge, None, NOW)
    reuse = Reuse(NOW - timedelta(hours=1), NOW, timedelta(hours=1), ("dns-01",))
    made = await store.create_order(order("o2"), reuse=reuse)
    assert await store.order("o2") == made
    assert [each.status for each in made.authorizations] == [AuthorizationStatus.VALID] * 2
    assert [each.origin for each in made.authorizations] == ["o1-a0", "o1-a1"]
    again = await store.create_order(order("o3"), reuse=reuse)
    assert [each.origin for each in again.authorizations] == ["o1-a0", "o1-a1"]
    await store.deactivate_authorization("o2-a0")
    for order_id in ("o1", "o2", "o3"):
        found = await store.order(order_id)
        assert found is not None
        ended = [AuthorizationStatus.DEACTIVATED, AuthorizationStatus.VALID]
        assert [each.status for each in found.authorizations] == ended
    late = dataclasses.replace(reuse, since=NOW)
    assert (await store.create_order(order("o4"), reuse=late)).authorizations == order("o4").authorizations


@ensure
async def test_proofs_are_found_by_an_index(database: Database) -> None:
    """Else an account with many authorizations would pay for each at every order."""

    asked = {"account_id": "ann", "names": [(dns("a.example"),)], "now": NOW, "most": 1}

    def plan(connection: Connection) -> str:
        question = PROOFS.params(**asked).compile(connection, compile_kwargs={"literal_binds": True})
        if connection.dialect.name == "sqlite":
            return str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {question}").all())
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        return str(connection.exec_driver_sql(f"EXPLAIN {question}").all())

    assert "ix_acme_authorizations_valid" in await database.write(plan)
