"""A worker that is killed at one step of finalizing an order: `acme_victim.py STATE_DIR STEP ORDER`.

As `victim`. The order is made where there is none, with its names proven. What a former victim has begun is finished
as by a worker that claims the job. Prints the serial of the order's certificate.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from opencertd.acme.states import (
    Account,
    AccountStatus,
    Authorization,
    AuthorizationStatus,
    Challenge,
    ChallengeStatus,
    Order,
    OrderStatus,
)
from opencertd.acme.store import FINALIZE, Beginning
from opencertd.acme.work import Work
from opencertd.asn1.pkcs10 import parse_csr
from opencertd.clock import SystemClock
from opencertd.first_start import at_once, build_authority, take_over
from opencertd.issuance.authority import CertificateAuthority
from opencertd.issuance.issuers import load_issuers
from opencertd.jobs.store import Job
from opencertd.model.names import parse_dns_name
from opencertd.state import StateDirectory
from opencertd.store import acme_finalize
from opencertd.store.acme import SqlAcmeStore
from opencertd.store.acme_stars import SqlStarStore
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from tests.acme.signing import csr_for, ec_key
from tests.service.killing import victims_settings
from tests.service.victim import after, before

STEPS = (
    "before the order is begun",
    "begun, before the intent",
    "after both are committed",
    "after signing",
    "before it is stored as issued",
    "issued, before the order is settled",
    "settled, before the commit",
    "after the commit, before the answer",
)
BEGUN = STEPS.index("after both are committed")
NAME = parse_dns_name("host.test")
ACCOUNT = "account"
LEASE = timedelta(seconds=60)


def doom(step: str, authority: CertificateAuthority, store: SqlCertificateStore) -> None:
    """Set the trap."""
    signer = next(issuer.signer for issuer in authority.issuers.issuing() if issuer.name == "ecdsa")
    traps: tuple[Callable[[], None], ...] = (
        partial(before, acme_finalize, "begin"),
        partial(after, acme_finalize, "begin"),
        partial(after, store, "reserve"),
        partial(after, signer, "sign"),
        partial(before, store, "complete"),
        partial(before, acme_finalize, "complete"),
        partial(after, acme_finalize, "complete"),
        partial(after, store, "complete"),
    )
    if step != "none":
        dict(zip(STEPS, traps, strict=True))[step]()


def proven(order_id: str) -> Order:
    """An order that is ready."""
    now = SystemClock().now().replace(microsecond=0)
    end = now + timedelta(days=1)
    challenge = Challenge(f"{order_id}-c", f"{order_id}-a", "http-01", "token", ChallengeStatus.VALID, now)
    authorization = Authorization(
        f"{order_id}-a", ACCOUNT, NAME, False, AuthorizationStatus.VALID, end, challenges=(challenge,)
    )
    return Order(order_id, ACCOUNT, "default", (NAME,), OrderStatus.PENDING, end, now, authorizations=(authorization,))


async def finalized(store: SqlAcmeStore, work: Work, order_id: str, owner: str) -> int | None:
    """Have the order issued for, by a client that finalizes it or by the job; the id of its certificate."""
    clock = SystemClock()
    account = Account(ACCOUNT, AccountStatus.VALID, {}, "thumbprint", (), True, clock.now())
    await store.create_account(account)
    order = await store.order(order_id) or await store.create_order(proven(order_id))
    if order.status is OrderStatus.PENDING:
        csr = parse_csr(csr_for(ec_key(), NAME.value))
        begun = replace(order, status=OrderStatus.PROCESSING, csr_der=csr.der)
        await work.issue(begun, csr, Beginning(order.id, csr.der, owner, clock.now(), LEASE))
    elif order.status is OrderStatus.PROCESSING:
        job = Job(FINALIZE, order.id, clock.now(), generation=1, attempts=1, failures=0)
        assert await work.finalize(job) is None
    settled = await store.order(order_id)
    assert settled is not None and settled.status is OrderStatus.VALID
    return settled.certificate_id


class NoValidator:
    """Nothing is validated here."""

    async def validate(self, question: object) -> None:
        raise AssertionError

    async def check_caa(self, question: object) -> None:
        raise AssertionError


async def main(reactor: Any, state_dir: str, step: str, order_id: str) -> None:
    settings = victims_settings(Path(state_dir))
    state, clock = StateDirectory(settings.state_dir), SystemClock()
    kept = take_over(settings, state, 0, clock)
    database = Database.open(settings.database_url(), reactor)
    certificates, store = SqlCertificateStore(database, clock), SqlAcmeStore(database, clock)
    issuers = load_issuers(kept.issuers, state.keys, None, at_once)
    authority = build_authority(settings, issuers, certificates, clock=clock, reactor=reactor, owner=kept.owner)
    work = Work(
        store=store,
        authority=authority,
        validator=NoValidator(),
        clock=clock,
        account_url=str,
        stars=SqlStarStore(database, clock),
    )
    doom(step, authority, certificates)
    certificate_id = await finalized(store, work, order_id, kept.owner)
    assert certificate_id is not None
    record = await certificates.by_id(certificate_id)
    assert record is not None
    print(record.serial, flush=True)
    await database.close()


def begin(reactor: Any, *arguments: str) -> Deferred[None]:
    return Deferred.fromCoroutine(main(reactor, *arguments))


if __name__ == "__main__":
    react(begin, sys.argv[1:])
