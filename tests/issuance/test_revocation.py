"""How a revocation may change: the rules as a table, and the core under any sequence of wishes."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st

from opencertd.errors import Refusal, RefusalKind
from opencertd.first_start import run_now
from opencertd.issuance.authority import CertificateAuthority
from opencertd.issuance.revocation import revised
from opencertd.model.certificates import (
    FINAL_REASONS,
    USABLE_REASONS,
    CertificateRecord,
    Revocation,
    RevocationReason,
    RevocationState,
)
from opencertd.model.request import ReinstatementRequest, RevocationRequest
from tests.ca import NOW, TestCa, make_ca, make_rules, request, requester

HOLD = RevocationReason.CERTIFICATE_HOLD
COMPROMISED = RevocationReason.KEY_COMPROMISE
LATER = NOW + timedelta(days=3)
LONG_AGO = NOW - timedelta(days=100)
COMPROMISES = {COMPROMISED, RevocationReason.CA_COMPROMISE, RevocationReason.AA_COMPROMISE}


def wish(reason: RevocationReason, since: datetime | None = None, *, shown: bool = False) -> RevocationRequest:
    return RevocationRequest("i", 1, reason, requester(), invalidity_date=since, compromise_shown=shown)


def kind_of(current: Revocation | None, asked: RevocationRequest, *, hold: bool = True) -> RefusalKind:
    with pytest.raises(Refusal) as caught:
        revised(current, asked, LATER, hold=hold)
    return caught.value.kind


@pytest.mark.parametrize("reason", sorted(USABLE_REASONS))
def test_a_good_certificate_is_revoked_or_held_now(reason: RevocationReason) -> None:
    assert revised(None, wish(reason, LONG_AGO), LATER, hold=True) == Revocation(LATER, reason, LONG_AGO)


@pytest.mark.parametrize("reason", sorted(FINAL_REASONS))
def test_a_hold_becomes_final_with_the_date_of_the_hold(reason: RevocationReason) -> None:
    held = Revocation(NOW, HOLD)
    assert revised(held, wish(reason), LATER, hold=True) == Revocation(NOW, reason)
    assert revised(held, wish(reason), LATER, hold=False) == Revocation(NOW, reason)


def test_an_invalidity_date_is_kept_until_a_better_one_is_known() -> None:
    held = Revocation(NOW, HOLD, LONG_AGO)
    assert revised(held, wish(COMPROMISED), LATER, hold=True).invalidity_date == LONG_AGO
    assert revised(held, wish(COMPROMISED, NOW), LATER, hold=True).invalidity_date == NOW


@pytest.mark.parametrize("current", sorted(FINAL_REASONS))
@pytest.mark.parametrize("reason", sorted(USABLE_REASONS))
@pytest.mark.parametrize("shown", [False, True])
def test_a_final_reason_stays_but_for_a_compromise_that_was_shown(
    current: RevocationReason, reason: RevocationReason, shown: bool
) -> None:
    final = Revocation(NOW, current, LONG_AGO)
    if shown and reason is COMPROMISED and current not in COMPROMISES:
        changed = revised(final, wish(reason, shown=True), LATER, hold=True)
        assert changed == dataclasses.replace(final, reason=COMPROMISED)
    else:
        assert kind_of(final, wish(reason, shown=shown)) is RefusalKind.ALREADY_REVOKED


def test_wishes_that_are_never_granted() -> None:
    assert kind_of(Revocation(NOW, HOLD), wish(HOLD)) is RefusalKind.ALREADY_REVOKED
    assert kind_of(None, wish(RevocationReason.REMOVE_FROM_CRL)) is RefusalKind.BAD_REVOCATION_REASON
    assert kind_of(None, wish(HOLD), hold=False) is RefusalKind.BAD_REVOCATION_REASON
    for since in (LATER + timedelta(seconds=1), datetime(1969, 12, 31, tzinfo=UTC)):
        assert kind_of(None, wish(COMPROMISED, since)) is RefusalKind.MALFORMED
    assert revised(None, wish(COMPROMISED, LATER), LATER, hold=True).invalidity_date == LATER


HOLDING = """
[profiles.held]
hold = true
[profiles.final]
hold = false
[profiles.below]
like = "final"
"""


@pytest.mark.parametrize("usual", [True, False])
def test_profiles_say_whether_their_certificates_are_held(usual: bool) -> None:
    ca = make_ca(rules=HOLDING)
    ca.authority._hold = usual
    for profile, holds in (("default", usual), ("held", True), ("final", False), ("below", False)):
        record = run_now(ca.authority.issue(request(profile=profile))).record
        asked = RevocationRequest(record.issuer_id, record.serial, HOLD, requester())
        if holds:
            held = run_now(ca.authority.revoke(asked))
            assert held.revocation and held.revocation.held
            continue
        with pytest.raises(Refusal, match="on hold") as caught:
            run_now(ca.authority.revoke(asked))
        assert caught.value.kind is RefusalKind.BAD_REVOCATION_REASON
        assert not run_now(ca.authority.recognise(record.certificate_der or b"")).revocation  # type: ignore[union-attr]
        run_now(ca.authority.revoke(dataclasses.replace(asked, reason=COMPROMISED)))


def test_a_hold_ends_even_when_the_profile_makes_none_any_more_or_is_gone() -> None:
    ca = make_ca(rules=HOLDING)
    records = [run_now(ca.authority.issue(request(profile="held"))).record for _ in range(2)]
    for record in records:
        run_now(ca.authority.revoke(RevocationRequest(record.issuer_id, record.serial, HOLD, requester())))
    rules = make_rules(HOLDING.replace("true", "false"), ca.issuers)
    ca.authority.adopt(ca.issuers, rules.profiles, rules.policies)
    run_now(ca.authority.reinstate(ReinstatementRequest(records[0].issuer_id, records[0].serial, requester())))
    rules = make_rules("", ca.issuers)
    ca.authority.adopt(ca.issuers, rules.profiles, rules.policies)
    run_now(ca.authority.reinstate(ReinstatementRequest(records[1].issuer_id, records[1].serial, requester())))
    run_now(ca.authority.revoke(RevocationRequest(records[1].issuer_id, records[1].serial, HOLD, requester())))


def test_nobody_holds_what_is_not_there() -> None:
    ca = make_ca()
    with pytest.raises(Refusal) as caught:
        run_now(ca.authority.revoke(RevocationRequest(ca.issuers.all()[0].id, 1, HOLD, requester())))
    assert caught.value.kind is RefusalKind.NOT_FOUND


class Case:
    """A certificate of a real core, and who was told of its changes."""

    def __init__(self, ca: TestCa, record: CertificateRecord) -> None:
        self.ca = ca
        self.record = record
        self.told: list[CertificateRecord] = []
        ca.authority.on_status_changed.append(self.told.append)

    async def revoke(self, reason: RevocationReason, *, shown: bool = False) -> CertificateRecord:
        asked = RevocationRequest(
            self.record.issuer_id, self.record.serial, reason, requester(), compromise_shown=shown
        )
        return await self.ca.authority.revoke(asked)

    async def reinstate(self) -> CertificateRecord:
        return await self.ca.authority.reinstate(
            ReinstatementRequest(self.record.issuer_id, self.record.serial, requester(label="operator"))
        )

    async def history(self) -> list[tuple[RevocationState, RevocationReason, str]]:
        changes = await self.ca.store.revocation_history(self.record.id)
        return [(change.state, change.revocation.reason, change.by) for change in changes]


def case() -> Case:
    ca = make_ca()
    return Case(ca, run_now(ca.authority.issue(request())).record)


async def stored(one: Case) -> CertificateRecord:
    record = await one.ca.store.by_id(one.record.id)
    assert record is not None
    return record


async def refused(deed: object) -> RefusalKind:
    with pytest.raises(Refusal) as caught:
        await deed  # type: ignore[misc]
    return caught.value.kind


@pytest_twisted.ensureDeferred
async def test_hold_reinstate_hold_revoke() -> None:
    one = case()
    held = await one.revoke(HOLD)
    assert held.revocation == Revocation(NOW, HOLD)
    assert await refused(one.revoke(HOLD)) is RefusalKind.ALREADY_REVOKED
    one.ca.clock.advance(timedelta(days=1))
    assert (await one.reinstate()).revocation is None
    assert await refused(one.reinstate()) is RefusalKind.CONFLICT
    one.ca.clock.advance(timedelta(days=1))
    await one.revoke(HOLD)
    one.ca.clock.advance(timedelta(days=1))
    gone = await one.revoke(RevocationReason.SUPERSEDED)
    assert gone.revocation == Revocation(NOW + timedelta(days=2), RevocationReason.SUPERSEDED)
    assert await refused(one.reinstate()) is RefusalKind.ALREADY_REVOKED
    assert await refused(one.revoke(COMPROMISED)) is RefusalKind.ALREADY_REVOKED
    await one.revoke(COMPROMISED, shown=True)
    assert await one.history() == [
        (RevocationState.HELD, HOLD, "estuser"),
        (RevocationState.RELEASED, HOLD, "operator"),
        (RevocationState.HELD, HOLD, "estuser"),
        (RevocationState.REVOKED, RevocationReason.SUPERSEDED, "estuser"),
        (RevocationState.REVOKED, COMPROMISED, "estuser"),
    ]
    assert [bool(record.revocation) for record in one.told] == [True, False, True, True, True]


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_reinstated() -> None:
    one = case()
    assert await refused(one.reinstate()) is RefusalKind.CONFLICT
    unknown = ReinstatementRequest(one.record.issuer_id, 5, requester())
    assert await refused(one.ca.authority.reinstate(unknown)) is RefusalKind.NOT_FOUND
    await one.revoke(HOLD)
    one.ca.clock.advance(one.record.not_after - NOW + timedelta(seconds=1))
    assert await refused(one.reinstate()) is RefusalKind.CONFLICT


@pytest_twisted.ensureDeferred
async def test_a_core_that_holds_nothing_still_ends_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    one = case()
    await one.revoke(HOLD)
    monkeypatch.setattr(one.ca.authority, "_hold", False)
    assert (await one.reinstate()).revocation is None
    assert await refused(one.revoke(HOLD)) is RefusalKind.BAD_REVOCATION_REASON
    assert isinstance(one.ca.authority, CertificateAuthority)


DEEDS = st.one_of(st.just("reinstate"), st.tuples(st.sampled_from(sorted(RevocationReason)), st.booleans()))


@settings(max_examples=60, deadline=None)
@given(st.lists(DEEDS, max_size=10))
def test_no_sequence_of_wishes_leads_where_it_must_not(deeds: list[object]) -> None:
    one = case()
    before: Revocation | None = None
    steps = 0
    for deed in deeds:
        one.ca.clock.advance(timedelta(seconds=1))
        try:
            if isinstance(deed, tuple):
                record = run_now(one.revoke(deed[0], shown=deed[1]))
            else:
                record = run_now(one.reinstate())
        except Refusal:
            after = run_now(stored(one)).revocation
            assert after == before, "a refused wish changes nothing"
            continue
        steps += 1
        after = record.revocation
        if before is not None and not before.held:
            assert after is not None and after.reason is COMPROMISED, "final stays final"
        if before is not None and after is not None:
            assert after.revoked_at == before.revoked_at
        assert after != before
        before = after
    history = run_now(one.history())
    assert len(history) == steps
