"""One of several processes on one database: `racer.py URL OWNER DEED COUNT`; DEED is a function below.

Prints `ready`, waits for a line, then says on a line each what it won. Killed at any moment, it has said nothing that
is not in the database.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

from twisted.internet import reactor, threads
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import react

from opencertd.acme.store import Beginning, UnusedNonce
from opencertd.clock import FixedClock
from opencertd.errors import Refusal
from opencertd.issuance.revocation import reinstate, revoke
from opencertd.model.approval import Decision
from opencertd.model.certificates import RevocationReason
from opencertd.model.request import ReinstatementRequest, RevocationRequest
from opencertd.model.requester import ANY_NAME, Proof, Requester
from opencertd.store.acme import SqlAcmeStore
from opencertd.store.approvals import SqlApprovalStore
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from opencertd.store.jobs import SqlJobStore
from opencertd.store.login_failures import SqlLoginFailures
from opencertd.web.throttle import Throttle
from tests.store.values import ISSUER, LONG_AGO, NOW, intent

LANES = 32  # deeds under way at a time


def say(what: object) -> None:
    print(what, flush=True)


async def reserve(database: Database, owner: str, number: int) -> None:
    """One transaction key a number: whose record is it?"""
    store = SqlCertificateStore(database, FixedClock(NOW))
    serial = int.from_bytes(f"{owner}-{number}".encode(), "big")
    record = await store.reserve(intent(serial, owner=owner, transaction=f"t-{number}"), None, LONG_AGO)
    if record.owner == owner:
        say(number)


async def redeem(database: Database, owner: str, number: int) -> None:
    """One nonce a number."""
    store = SqlAcmeStore(database, FixedClock(NOW))
    try:
        await store.redeem_nonce(UnusedNonce(f"nonce-{number}", NOW))
    except Refusal:
        return
    say(number)


async def finalize(database: Database, owner: str, number: int) -> None:
    """One order a number: who begins to issue for it?"""
    store = SqlAcmeStore(database, FixedClock(NOW))
    if await store.begin_finalize(Beginning(f"o{number}", owner.encode(), owner, NOW, timedelta(hours=1))):
        say(number)


async def claim(database: Database, owner: str, number: int) -> None:
    """Jobs that stand in the table before the race."""
    store = SqlJobStore(database, FixedClock(NOW))
    for job in await store.claim(("k",), owner, NOW, timedelta(hours=1), 3):
        say(job.key)


async def issue(database: Database, owner: str, number: int) -> None:
    """A certificate a number, from intent to issued."""
    store = SqlCertificateStore(database, FixedClock(NOW))
    serial = int.from_bytes(f"{owner}-{number}".encode(), "big")
    record = await store.reserve(intent(serial, owner=owner), None, LONG_AGO)
    await store.complete(record.id, b"certificate", NOW)
    say(serial)


async def decide(database: Database, owner: str, number: int) -> None:
    """A request that waits a number: who decides it?"""
    store = SqlApprovalStore(database, FixedClock(NOW))
    who = Requester(Proof.OPERATOR, owner, owner, ANY_NAME)
    try:
        await store.decide(f"r{number}", Decision(approved=owner != "owner0"), who, NOW + timedelta(days=7))
    except Refusal:
        return
    say(number)


async def enrol(database: Database, owner: str, number: int) -> None:
    """An enrolment password a number, good for one certificate: who has it?"""
    store = SqlCertificateStore(database, FixedClock(NOW))
    serial = int.from_bytes(f"{owner}-{number}".encode(), "big")
    who = f"{Proof.ENROLMENT_PASSWORD.value}:otp-{number}"
    try:
        record = await store.reserve(intent(serial, owner=owner, requester=who), None, LONG_AGO)
    except Refusal:
        return
    await store.complete(record.id, b"certificate", NOW)
    say(number)


async def guess(database: Database, owner: str, number: int) -> None:
    """A wrong password for one user."""
    await Throttle(FixedClock(NOW), SqlLoginFailures(database, FixedClock(NOW))).failed("ann", "192.0.2.1")
    say(number)


async def suspend(database: Database, owner: str, number: int) -> None:
    """Hold, release or revoke certificate 1, in turn; says what was done."""
    store = SqlCertificateStore(database, FixedClock(NOW))
    who = Requester(Proof.PASSWORD, owner, owner, ANY_NAME)
    try:
        if number % 3 == 1:
            await reinstate(store, ReinstatementRequest(ISSUER.id, 1, who), NOW)
            say("released")
        else:
            final = number > 120 and number % 3 == 2
            reason = RevocationReason.SUPERSEDED if final else RevocationReason.CERTIFICATE_HOLD
            await revoke(store, RevocationRequest(ISSUER.id, 1, reason, who), NOW, holds=lambda _: True)
            say("revoked" if final else "held")
    except Refusal:
        return


async def main(_reactor: Any, url: str, owner: str, deed: str, count: str) -> None:
    database = Database.open(url, reactor)
    say("ready")
    await threads.deferToThread(sys.stdin.readline)
    numbers = iter(range(int(count)))

    async def lane() -> None:
        for number in numbers:
            await globals()[deed](database, owner, number)

    await DeferredList([Deferred.fromCoroutine(lane()) for _ in range(LANES)], fireOnOneErrback=True)
    await database.close()


if __name__ == "__main__":
    react(main, sys.argv[1:])
