"""Responders are obtained once, renewed in time, and an authority that fails is not pestered."""

from __future__ import annotations

from datetime import timedelta

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred

from opencertd.clock import FixedClock
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuer
from opencertd.ocsp.responder import Responder, ResponderKeeper
from opencertd.tasks import Tasks
from tests.ocsp.pki import NOW, pki, signer
from tests.ocsp.rig import obtain_responder

ISSUER = pki().ecdsa.issuer
DAY = timedelta(days=1)


class Source:
    """Gives responders of 30 days, when asked to; `slow` makes it wait."""

    def __init__(self) -> None:
        self.clock = FixedClock(NOW)
        self.tasks = Tasks()
        self.asked = 0
        self.trouble: Exception | None = None
        self.slow: Deferred[None] | None = None
        self.keeper = ResponderKeeper(self.obtain, clock=self.clock, tasks=self.tasks)

    async def obtain(self, issuer: Issuer) -> Responder:
        self.asked += 1
        if self.slow is not None:
            await self.slow
        if self.trouble is not None:
            raise self.trouble
        return obtain_responder(pki().ca_of(issuer), self.clock.now(), self.clock.now() + 30 * DAY)

    def ask(self) -> Deferred[Responder]:
        return Deferred.fromCoroutine(self.keeper.responder(ISSUER))


@pytest_twisted.ensureDeferred
async def test_it_is_obtained_once_and_renewed_when_a_third_of_its_life_is_left() -> None:
    source = Source()
    first = await source.ask()
    source.clock.advance(19 * DAY)
    assert await source.ask() is first
    source.clock.advance(DAY)
    assert await source.ask() is first  # nobody waits for the renewal
    second = await source.ask()
    assert second is not first
    assert source.asked == 2


@pytest_twisted.ensureDeferred
async def test_many_who_ask_at_once_share_one() -> None:
    source = Source()
    source.slow = Deferred()
    asking = [source.ask() for _ in range(5)]
    source.slow.callback(None)
    assert len({id(await each) for each in asking}) == 1
    assert source.asked == 1


@pytest_twisted.ensureDeferred
async def test_one_who_hangs_up_takes_nothing_from_the_others() -> None:
    source = Source()
    source.slow = Deferred()
    leaving, staying = source.ask(), source.ask()
    leaving.addErrback(lambda _: None)
    leaving.cancel()
    source.slow.callback(None)
    assert (await staying).certificate_der
    assert source.asked == 1


@pytest_twisted.ensureDeferred
async def test_a_failure_is_unavailable_and_not_repeated_at_once() -> None:
    source = Source()
    source.trouble = Refusal(RefusalKind.UNAVAILABLE, "the HSM is away")
    for _ in range(3):
        with pytest.raises(Refusal) as caught:
            await source.ask()
        assert caught.value.kind is RefusalKind.UNAVAILABLE
    assert source.asked == 1
    source.trouble = None
    source.clock.advance(timedelta(seconds=5))
    assert await source.ask()


@pytest_twisted.ensureDeferred
async def test_a_valid_one_serves_on_while_renewal_fails() -> None:
    source = Source()
    first = await source.ask()
    source.clock.advance(25 * DAY)
    source.trouble = OSError("no")
    assert await source.ask() is first
    assert await source.ask() is first
    assert source.asked == 2
    source.clock.advance(6 * DAY)
    with pytest.raises(Refusal):
        await source.ask()


@pytest_twisted.ensureDeferred
async def test_one_that_is_as_good_as_expired_is_not_used() -> None:
    source = Source()

    async def stale(issuer: Issuer) -> Responder:
        return obtain_responder(pki().ca_of(issuer), NOW - DAY, NOW + timedelta(minutes=1))

    keeper = ResponderKeeper(stale, clock=source.clock, tasks=source.tasks)
    with pytest.raises(Refusal):
        await keeper.responder(ISSUER)


@pytest_twisted.ensureDeferred
async def test_a_source_that_has_nothing_newer_is_left_in_peace_for_a_while() -> None:
    source = Source()
    old = await source.ask()
    asked = []

    async def same(issuer: Issuer) -> Responder:
        asked.append(source.clock.now())
        return old

    keeper = ResponderKeeper(same, clock=source.clock, tasks=source.tasks)
    source.clock.advance(21 * DAY)
    for _ in range(60):
        assert await keeper.responder(ISSUER) is old
        source.clock.advance(timedelta(minutes=1))
    assert len(asked) == 6


def test_a_certificate_for_another_key_is_refused() -> None:
    responder = obtain_responder(pki().ecdsa, NOW, NOW + DAY)
    with pytest.raises(ValueError, match="key"):
        Responder.of(responder.certificate_der, signer(ec.generate_private_key(ec.SECP256R1())))
