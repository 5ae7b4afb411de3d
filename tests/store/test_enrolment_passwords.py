"""An enrolment password is used up by certificates, and by nothing that came to none."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest_twisted

from opencertd.clock import FixedClock
from opencertd.errors import Refusal, RefusalKind
from opencertd.model.certificates import CertificateRecord, CertificateState
from opencertd.model.enrolment_password import EnrolmentPassword
from opencertd.model.requester import ANY_NAME, Proof, Requester
from opencertd.store.audit import SqlAuditStore
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from opencertd.store.enrolment_passwords import SqlEnrolmentPasswordStore
from tests.store.values import ISSUER, LONG_AGO, NOW, ROOT, SECOND, intent, refused

ensure = pytest_twisted.ensureDeferred
DAY = timedelta(days=1)
OPERATOR = Requester(Proof.OPERATOR, "root", "Root", ANY_NAME)


def password(name: str = "otp-a", **changes: Any) -> EnrolmentPassword:
    values: dict[str, Any] = {
        "id": name,
        "digest": "ab" * 32,
        "names": ("a.example", "*.b.example"),
        "profiles": ("default",),
        "uses": 1,
        "made_at": NOW,
        "made_by": "operator:root",
        "until": NOW + DAY,
        "note": "für Halle 3",
    }
    return EnrolmentPassword(**{**values, **changes})


class Desk:
    def __init__(self, database: Database, clock: FixedClock) -> None:
        self.clock = clock
        self.certificates = SqlCertificateStore(database, clock)
        self.passwords = SqlEnrolmentPasswordStore(database, clock)

    async def begin(self, serial: int, name: str = "otp-a", **changes: Any) -> CertificateRecord:
        values = {"requester": f"enrolment-password:{name}", "intended_at": self.clock.now(), **changes}
        stale = self.clock.now() - timedelta(seconds=60)
        return await self.certificates.reserve(intent(serial, **values), timedelta(seconds=60), stale)

    async def issue(self, serial: int, name: str = "otp-a", **changes: Any) -> CertificateRecord:
        record = await self.begin(serial, name, **changes)
        return await self.certificates.complete(record.id, b"certificate", self.clock.now())

    async def used(self, name: str = "otp-a") -> int:
        found = await self.passwords.find(name)
        assert found is not None
        return found.used

    async def refuses(self, serial: int, kind: RefusalKind, name: str = "otp-a") -> Refusal:
        refusal = await refused(self.begin(serial, name))
        assert refusal.kind is kind
        assert await self.certificates.by_serial(serial) == ()
        return refusal


@pytest_twisted.async_fixture
async def desk(database: Database, clock: FixedClock) -> Desk:
    made = Desk(database, clock)
    await made.certificates.add_issuers((ROOT, ISSUER))
    await made.passwords.add(password(), OPERATOR)
    return made


@ensure
async def test_it_is_kept_and_read_as_it_was(desk: Desk) -> None:
    assert await desk.passwords.find("otp-a") == password()
    assert await desk.passwords.find("otp-b") is None
    bare = password("otp-b", profiles=None, note="", uses=9)
    await desk.passwords.add(bare, OPERATOR)
    assert await desk.passwords.page("", 10) == (password(), bare)
    assert await desk.passwords.page("otp-a", 10) == (bare,)


@ensure
async def test_one_certificate_uses_it_up(desk: Desk) -> None:
    await desk.issue(1)
    found = await desk.passwords.find("otp-a")
    assert found is not None
    assert (found.used, found.last_used_at) == (1, NOW)
    assert "used up" in (await desk.refuses(2, RefusalKind.UNAUTHENTICATED)).detail
    assert await desk.used() == 1


@ensure
async def test_while_it_is_in_use_others_are_told_to_wait(desk: Desk) -> None:
    await desk.begin(1)
    assert (await desk.refuses(2, RefusalKind.CONFLICT)).retry_after == 2


@ensure
async def test_what_is_given_up_was_no_use(desk: Desk) -> None:
    record = await desk.begin(1)
    await desk.certificates.abandon(record.id)
    assert await desk.used() == 0
    await desk.issue(2)
    await desk.refuses(3, RefusalKind.UNAUTHENTICATED)


@ensure
async def test_a_worker_that_died_uses_nothing_up_and_cannot_come_back(desk: Desk) -> None:
    dead = await desk.begin(1)
    desk.clock.advance(timedelta(seconds=61))
    found = await desk.passwords.find("otp-a")
    assert found is not None and found.why_unusable(desk.clock.now()) is None
    await desk.issue(2)
    refusal = await refused(desk.certificates.complete(dead.id, b"certificate", desk.clock.now()))
    assert refusal.kind is RefusalKind.CONFLICT
    record = await desk.certificates.by_id(dead.id)
    assert record is not None and record.state is CertificateState.ABANDONED


@ensure
async def test_the_same_request_again_is_answered_by_the_same_certificate(desk: Desk) -> None:
    first = await desk.issue(1, transaction="t")
    assert await desk.begin(2, transaction="t") == first
    assert await desk.used() == 1


@ensure
async def test_it_is_good_for_as_many_as_it_says(desk: Desk) -> None:
    await desk.passwords.add(password("otp-b", uses=3), OPERATOR)
    for serial in (11, 12, 13):
        await desk.issue(serial, "otp-b")
    await desk.refuses(14, RefusalKind.UNAUTHENTICATED, "otp-b")
    assert (await desk.used(), await desk.used("otp-b")) == (0, 3)


@ensure
async def test_revoked_expired_and_unknown_ones_begin_nothing(desk: Desk) -> None:
    await desk.refuses(1, RefusalKind.UNAUTHENTICATED, "otp-z")
    await desk.passwords.add(password("otp-b"), OPERATOR)
    await desk.passwords.revoke("otp-b", OPERATOR)
    await desk.refuses(2, RefusalKind.UNAUTHENTICATED, "otp-b")
    desk.clock.advance(DAY)
    await desk.refuses(3, RefusalKind.UNAUTHENTICATED)


@ensure
async def test_it_is_revoked_once_and_the_audit_chain_says_who_did_what(desk: Desk, database: Database) -> None:
    await desk.passwords.revoke("otp-a", OPERATOR)
    assert (await refused(desk.passwords.revoke("otp-a", OPERATOR))).kind is RefusalKind.CONFLICT
    assert (await refused(desk.passwords.revoke("otp-b", OPERATOR))).kind is RefusalKind.NOT_FOUND
    entries = await SqlAuditStore(database, desk.clock).page(None, 100)
    said = [entry for entry in entries if entry.deed == "change-enrolment-password"]
    changes = [(entry.who, json.loads(entry.what)["change"], json.loads(entry.what)["password"]) for entry in said]
    assert changes == [("root", "add", "otp-a"), ("root", "revoke", "otp-a")]
    assert all("ab" * 32 not in entry.what for entry in entries)


@ensure
async def test_basic_is_worth_offering_while_one_is_good(desk: Desk) -> None:
    assert await desk.passwords.any_good()
    desk.clock.advance(DAY)
    assert not await desk.passwords.any_good()
    await desk.passwords.add(password("otp-b", until=NOW + 9 * DAY), OPERATOR)
    assert await desk.passwords.any_good()
    await desk.passwords.revoke("otp-b", OPERATOR)
    assert not await desk.passwords.any_good()


@ensure
async def test_what_has_expired_long_ago_goes_and_its_certificates_stay(desk: Desk) -> None:
    await desk.issue(1)
    await desk.passwords.add(password("otp-b", until=NOW + 2 * DAY), OPERATOR)
    assert not await desk.passwords.forget(NOW + DAY)
    assert await desk.passwords.find("otp-a") is not None
    assert not await desk.passwords.forget(NOW + DAY + SECOND)
    assert [one.id for one in await desk.passwords.page("", 10)] == ["otp-b"]
    assert len(await desk.certificates.by_serial(1)) == 1


@ensure
async def test_other_requesters_pay_nothing(desk: Desk) -> None:
    for serial in (1, 2):
        await desk.certificates.reserve(intent(serial), None, LONG_AGO)
    assert await desk.used() == 0
