"""RFC 5280 §5.2.4: what delta CRLs list, over the real store, whatever happens in whatever order."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from twisted.internet.defer import execute

from opencertd.clock import FixedClock
from opencertd.crl.server import CrlServer
from opencertd.crl.store import Line, PublishedCrl
from opencertd.crl.terms import CrlTerms
from opencertd.model.certificates import Revocation, RevocationReason
from opencertd.model.crl_parts import ALL
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.crls import SqlCrlStore
from opencertd.store.database import Database
from opencertd.store.jobs import SqlJobStore
from tests.conformance import shows
from tests.crl.conformance.made import DAY, DELTA_URL, EC, Crl, now
from tests.ocsp.pki import NOW, pki
from tests.store.values import ANN, issue

REMOVED = RevocationReason.REMOVE_FROM_CRL
HOLD = RevocationReason.CERTIFICATE_HOLD
HOUR = timedelta(hours=1)
Listed = dict[int, int | None]


class Past:
    """A CA with deltas over SQL; what is in force, and every CRL that was made."""

    def __init__(self) -> None:
        self.clock = FixedClock(NOW.replace(microsecond=0))
        database = Database.in_memory()
        self.certificates = SqlCertificateStore(database, self.clock)
        now(self._add())
        self.server = CrlServer(
            issuers=pki().issuers,
            store=SqlCrlStore(database, self.clock),
            jobs=SqlJobStore(database, self.clock),
            clock=self.clock,
            elsewhere=execute,
            terms=CrlTerms(delta=(DELTA_URL,)),
        )
        self.complete: list[PublishedCrl] = []
        self.deltas: list[PublishedCrl] = []
        self.force: dict[int, Revocation] = {}

    async def _add(self) -> None:
        await self.certificates.add_issuers(tuple(issuer.record for issuer in pki().issuers.all()))

    def issue(self, *serials: int, lasts: timedelta = 400 * DAY) -> None:
        async def all_of_them() -> None:
            for serial in serials:
                await issue(self.certificates, serial, issuer_id=EC.issuer.id, not_after=self.clock.now() + lasts)

        now(all_of_them())

    def revoke(self, serial: int, reason: RevocationReason = RevocationReason.SUPERSEDED) -> None:
        said = Revocation(self.clock.now(), reason)
        replaces = self.force.get(serial)

        async def revoke() -> None:
            await self.certificates.revoke(EC.issuer.id, serial, said, ANN, replaces=replaces)

        now(revoke())
        self.force[serial] = said

    def release(self, serial: int) -> None:
        held = self.force.pop(serial)

        async def release() -> None:
            await self.certificates.release(EC.issuer.id, serial, held, ANN)

        now(release())

    def publish(self, *, delta: bool = False) -> Listed:
        made = now(self.server.publish(EC.issuer.id, Line(EC.issuer.id, ALL, delta)))
        (self.deltas if delta else self.complete).append(made)
        return listed(made)

    def delta(self) -> Listed:
        return self.publish(delta=True)

    def wait(self, time: timedelta) -> None:
        self.clock.advance(time)

    def as_it_is(self) -> Listed:
        return {serial: said.reason or None for serial, said in self.force.items()}


def listed(crl: PublishedCrl) -> Listed:
    return Crl(EC, crl, frozenset()).reasons()


def put_together(complete: PublishedCrl, delta: PublishedCrl) -> Listed:
    """As §5.2.4 and §6.3.3 say."""
    together = {**listed(complete), **listed(delta)}
    return {serial: reason for serial, reason in together.items() if reason != REMOVED}


@pytest.mark.parametrize("seed", range(6))
def test_5_2_4_random_pasts(seed: int) -> None:
    """Each delta, put together with each complete CRL that it fits, tells how things were when it was made."""
    source, past = random.Random(seed), Past()
    past.issue(*range(1, 13))
    past.publish()
    for _ in range(70):
        serial = source.randint(1, 12)
        said = past.force.get(serial)
        if said is None:
            past.revoke(serial, source.choice((HOLD, HOLD, RevocationReason.KEY_COMPROMISE)))
        elif said.held:
            past.release(serial) if source.random() < 0.7 else past.revoke(serial)
        past.wait(timedelta(seconds=source.choice((0, 0.3, 1, 40, 3600, 30000))))
        if source.random() < 0.4:
            past.publish()
        past.delta()
        delta = past.deltas[-1]
        fitting = [crl for crl in past.complete if (delta.base or 0) <= crl.number < delta.number]
        assert fitting
        for complete in fitting:
            assert put_together(complete, delta) == past.as_it_is()


@shows("5280 §5.2.4/6")
def test_5_2_4_put_together() -> None:
    past = Past()
    past.issue(1, 2, 3)
    past.revoke(1, HOLD)
    past.publish()
    past.wait(HOUR)
    past.revoke(2)
    past.publish()
    past.wait(HOUR)
    past.release(1)
    past.revoke(3)
    past.delta()
    for complete in past.complete:
        assert put_together(complete, past.deltas[0]) == {2: 4, 3: 4}


@shows("5280 §5.2.4/7")
def test_5_2_4_every_change() -> None:
    past = Past()
    past.issue(*range(1, 8))
    for serial in (1, 2):
        past.revoke(serial, HOLD)
    past.publish()
    past.wait(2 * HOUR)
    past.release(1)
    past.revoke(2)
    past.revoke(3)
    past.revoke(4, HOLD)
    assert set(past.delta()) == {1, 2, 3, 4}


@shows("5280 §5.2.4/8")
def test_5_2_4_revoked() -> None:
    past = Past()
    past.issue(1)
    past.publish()
    past.revoke(1)
    assert past.delta() == {1: RevocationReason.SUPERSEDED}


@shows("5280 §5.2.4/9")
def test_5_2_4_valid_again() -> None:
    past = Past()
    past.issue(1)
    past.revoke(1, HOLD)
    past.publish()
    past.wait(HOUR)
    past.release(1)
    assert past.delta() == {1: REMOVED}


@shows("5280 §5.2.4/10")
def test_5_2_4_another_reason() -> None:
    past = Past()
    past.issue(1)
    past.revoke(1, HOLD)
    past.publish()
    past.wait(HOUR)
    past.revoke(1, RevocationReason.KEY_COMPROMISE)
    assert past.delta() == {1: RevocationReason.KEY_COMPROMISE}


@shows("5280 §5.2.4/11")
def test_5_2_4_held_and_released() -> None:
    past = Past()
    past.issue(1)
    past.publish()
    past.revoke(1, HOLD)
    assert past.delta() == {1: HOLD}
    past.wait(HOUR)
    past.release(1)
    assert past.delta() == {1: REMOVED}


@shows("5280 §5.2.4/12")
def test_5_2_4_until_a_complete_crl_has_it() -> None:
    past = Past()
    past.issue(1, lasts=timedelta(hours=3))
    past.publish()
    past.revoke(1)
    for _ in range(9):  # two days, in which no complete CRL is made
        assert 1 in past.delta()
        past.wait(6 * HOUR)
    assert 1 in past.publish()
