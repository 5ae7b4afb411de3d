"""Whoever asks first finds an answer prepared, and the processor is left to those who ask."""

from __future__ import annotations

from datetime import timedelta

import pytest_twisted
from cryptography.x509 import ocsp as peer
from twisted.internet.defer import Deferred

from opencertd.ocsp.ahead import PAGE, AheadPreparer
from tests.ocsp.pki import Ca
from tests.ocsp.rig import Rig

EVERY = timedelta(minutes=5)
GOOD, REVOKED = peer.OCSPCertStatus.GOOD, peer.OCSPCertStatus.REVOKED


def ahead(rig: Rig) -> AheadPreparer:
    return AheadPreparer(server=rig.server, store=rig.store, clock=rig.clock, reactor=rig.reactor, every=EVERY)


def cas(rig: Rig) -> tuple[Ca, ...]:
    return (rig.pki.root, rig.pki.ecdsa, rig.pki.rsa)


def at_hand(rig: Rig, ca: Ca, serial: int) -> peer.OCSPResponse | None:
    answer = rig.server.at_hand(rig.request(serial, ca=ca), rig.clock.now())
    return None if answer is None else peer.load_der_ocsp_response(answer.body)


def finish_round(rig: Rig) -> None:
    rig.reactor.pump([0.01] * 100)


@pytest_twisted.ensureDeferred
async def test_every_certificate_of_every_issuer_has_its_answer_before_anybody_asks() -> None:
    rig = Rig()
    for serial in range(10, 10 + 3 * PAGE):
        rig.store.issue(rig.pki.rsa, serial)
    rig.revoke(2)
    preparer = ahead(rig)
    preparer.start()
    finish_round(rig)
    for ca in cas(rig):
        for serial in rig.store.issued[ca.issuer.id]:
            response = at_hand(rig, ca, serial)
            assert response is not None
            assert response.certificate_status is (REVOKED if (ca, serial) == (rig.pki.ecdsa, 2) else GOOD)
    assert max(len(asked) for asked in rig.store.asked) <= PAGE
    assert sorted(rig.obtained) == ["ecdsa", "ecdsa-root", "rsa"]
    await preparer.stop()


@pytest_twisted.ensureDeferred
async def test_from_round_to_round_there_is_always_one_and_none_is_made_needlessly() -> None:
    rig = Rig()
    preparer = ahead(rig)
    preparer.start()
    finish_round(rig)
    asked = len(rig.store.asked)
    made = set()
    for _ in range(36):
        rig.pass_time(EVERY)
        finish_round(rig)
        response = at_hand(rig, rig.pki.ecdsa, 1)
        assert response is not None
        assert response.next_update_utc is not None
        assert response.next_update_utc - rig.clock.now() > timedelta(minutes=30)
        made.add(response.produced_at_utc)
    assert 6 <= len(made) <= 12
    assert len(rig.store.asked) - asked == len(cas(rig)) * (len(made) - 1)
    await preparer.stop()


@pytest_twisted.ensureDeferred
async def test_a_revocation_while_answers_are_made_spoils_its_own() -> None:
    rig = Rig()
    rig.store.held = Deferred()
    preparer = ahead(rig)
    preparer.start()
    issuer = rig.pki.ecdsa.issuer.id
    held = rig.store.held
    rig.store.held = None
    held.callback(None)
    finish_round(rig)
    assert at_hand(rig, rig.pki.ecdsa, 1) is not None
    rig.pass_time(timedelta(minutes=22))
    rig.store.held = Deferred()
    preparing = Deferred.fromCoroutine(rig.server.prepare(issuer, (1, 2), rig.clock.now() + 2 * EVERY))
    rig.revoke(1)
    rig.server.note_revoked(issuer, 1)
    rig.store.held.callback(None)
    assert preparing.called
    assert at_hand(rig, rig.pki.ecdsa, 1) is None
    assert at_hand(rig, rig.pki.ecdsa, 2) is not None
    rig.store.held = None
    await preparer.stop()


@pytest_twisted.ensureDeferred
async def test_without_the_store_or_a_responder_the_next_round_tries_again() -> None:
    rig = Rig()
    preparer = ahead(rig)
    rig.store.away = RuntimeError("the store is away")
    preparer.start()
    assert at_hand(rig, rig.pki.ecdsa, 1) is None
    rig.store.away = None
    rig.no_responder = RuntimeError("no key")
    rig.pass_time(EVERY)
    finish_round(rig)
    assert at_hand(rig, rig.pki.ecdsa, 1) is None
    rig.no_responder = None
    rig.pass_time(EVERY)
    finish_round(rig)
    assert at_hand(rig, rig.pki.ecdsa, 1) is not None
    await preparer.stop()


@pytest_twisted.ensureDeferred
async def test_when_they_do_not_fit_it_stops_instead_of_making_each_anew_for_ever() -> None:
    rig = Rig(most_octets=256 * 700)  # two on each shelf
    for serial in range(10, 2000):
        rig.store.issue(rig.pki.ecdsa, serial)
    preparer = ahead(rig)
    preparer.start()
    finish_round(rig)
    assert sum(map(len, rig.store.asked)) < 1000
    await preparer.stop()


@pytest_twisted.ensureDeferred
async def test_it_can_be_stopped_amid_a_round_and_before_it_began() -> None:
    rig = Rig()
    for serial in range(10, 10 + 3 * PAGE):
        rig.store.issue(rig.pki.ecdsa, serial)
    preparer = ahead(rig)
    await preparer.stop()
    preparer = ahead(rig)
    preparer.start()
    asked = len(rig.store.asked)
    assert asked
    await preparer.stop()
    finish_round(rig)
    assert len(rig.store.asked) == asked
