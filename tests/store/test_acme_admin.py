"""External account keys and the operator's deeds, over every database: counted exactly, and listed page by page."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
import pytest_twisted
from twisted.internet.defer import DeferredList

from opencertd.acme.external_account import EabKey
from opencertd.acme.states import AccountStatus, AuthorizationStatus
from opencertd.clock import FixedClock
from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.model.names import AltName, AltNameKind
from opencertd.model.requester import ANY_NAME, Proof, Requester
from opencertd.store.acme import SqlAcmeStore
from opencertd.store.acme_admin import SqlAcmeAdmin
from opencertd.store.database import Database
from tests.store.values import NOW, account, order

ensure = pytest_twisted.ensureDeferred
KEY = EabKey("k", b"sealed", "rsa", ("*.a.example",), NOW, NOW + timedelta(days=1), 3)


def admin(database: Database) -> SqlAcmeAdmin:
    return SqlAcmeAdmin(database, FixedClock(NOW), Requester(Proof.OPERATOR, "root", "root", ANY_NAME))


@ensure
async def test_a_key_comes_back_as_it_was_kept_and_once_only(database: Database, clock: FixedClock) -> None:
    await admin(database).add_key(KEY)
    assert await SqlAcmeStore(database, clock).eab_key("k") == KEY
    with pytest.raises(StartError):
        await admin(database).add_key(KEY)
    assert await admin(database).keys() == (KEY,)
    assert await SqlAcmeStore(database, clock).eab_key("j") is None


@ensure
async def test_raced_accounts_never_exceed_what_the_key_allows(database: Database, clock: FixedClock) -> None:
    await admin(database).add_key(KEY)
    store = SqlAcmeStore(database, clock)
    asked = [
        store.create_account(dataclasses.replace(account(), id=f"a{n}", thumbprint=f"t{n}", eab_key="k"))
        for n in range(8)
    ]
    outcomes = await DeferredList(asked, consumeErrors=True)
    assert [fine for fine, _ in outcomes].count(True) == 3
    refusals = [failure.value for fine, failure in outcomes if not fine]
    assert {one.kind for one in refusals if isinstance(one, Refusal)} == {RefusalKind.UNAUTHORIZED}
    assert len(refusals) == 5
    (key,) = await admin(database).keys()
    assert key.accounts == 3
    assert len(await admin(database).accounts(None, 100)) == 3


@ensure
async def test_an_account_that_is_there_uses_no_key_up(database: Database, clock: FixedClock) -> None:
    await admin(database).add_key(KEY)
    store = SqlAcmeStore(database, clock)
    first, created = await store.create_account(dataclasses.replace(account(), eab_key="k", binding={"payload": "x"}))
    again, twice = await store.create_account(dataclasses.replace(account(), id="other", eab_key="k"))
    assert (created, twice, again) == (True, False, first)
    assert (await admin(database).keys())[0].accounts == 1


@ensure
async def test_an_expired_key_binds_nobody(database: Database, clock: FixedClock) -> None:
    await admin(database).add_key(KEY)
    late = dataclasses.replace(account(), eab_key="k", created_at=NOW + timedelta(days=1))
    with pytest.raises(Refusal):
        await SqlAcmeStore(database, clock).create_account(late)


@ensure
async def test_accounts_are_listed_page_by_page_and_changed(database: Database, clock: FixedClock) -> None:
    store = SqlAcmeStore(database, clock)
    await admin(database).add_key(dataclasses.replace(KEY, most_accounts=None))
    for n in range(5):  # two of each second
        made = dataclasses.replace(
            account(), id=f"a{n}", thumbprint=f"t{n}", created_at=NOW + timedelta(seconds=n // 2)
        )
        await store.create_account(dataclasses.replace(made, eab_key="k" if n % 2 else None))
    found, page = [], await admin(database).accounts(None, 2)
    while page:
        found += [one.id for one in page]
        page = await admin(database).accounts(page[-1], 2)
    assert found == ["a0", "a1", "a2", "a3", "a4"]
    assert await admin(database).change("a1", "deactivate")
    assert set(await admin(database).revoke_key("k", accounts_too=True)) == {"a3"}
    assert (await admin(database).account("a3"))[0].status is AccountStatus.REVOKED
    assert await admin(database).change("a3", "unblock")
    with pytest.raises(StartError):
        await admin(database).change("a1", "unblock")


@ensure
async def test_authorized_names_are_those_proven_and_not_expired(database: Database, clock: FixedClock) -> None:
    store = SqlAcmeStore(database, clock)
    await store.create_account(account())
    made = order()
    valid = tuple(dataclasses.replace(one, status=AuthorizationStatus.VALID) for one in made.authorizations)
    await store.create_order(dataclasses.replace(made, authorizations=valid))
    other = AltName(AltNameKind.DNS, "elsewhere.example")
    asked = (*made.names, other)
    assert await store.authorized(made.account_id, asked, NOW) == frozenset(made.names)
    assert await store.authorized("another", asked, NOW) == frozenset()
    end = max(one.expires for one in valid)
    assert await store.authorized(made.account_id, asked, end) == frozenset()
