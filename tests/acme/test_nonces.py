"""A nonce is ours, young, and has one spelling; any worker with the key can tell."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencertd.acme.nonces import LIFETIME, SKEW, Nonces
from opencertd.acme.store import UnusedNonce
from opencertd.clock import FixedClock
from opencertd.errors import Refusal, RefusalKind

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
KEY = bytes(range(32))


def nonces(key: bytes = KEY, clock: FixedClock | None = None) -> Nonces:
    return Nonces(key=key, clock=clock or FixedClock(NOW), random=secrets.token_bytes)


def check_refused(checker: Nonces, nonce: str | None) -> None:
    with pytest.raises(Refusal) as caught:
        checker.redeem(nonce)
    assert caught.value.kind is RefusalKind.BAD_NONCE


def test_another_worker_with_the_key_accepts_it() -> None:
    nonce = nonces().fresh()
    assert nonces().redeem(nonce) == UnusedNonce(nonce, NOW + LIFETIME + SKEW)


def test_it_is_base64url_and_never_the_same() -> None:
    maker = nonces()
    made = {maker.fresh() for _ in range(50)}
    assert len(made) == 50
    assert all(len(base64.urlsafe_b64decode(nonce)) == 54 for nonce in made)


def test_it_lives_for_one_hour() -> None:
    clock = FixedClock(NOW)
    checker = nonces(clock=clock)
    nonce = checker.fresh()
    clock.advance(LIFETIME - timedelta(seconds=1))
    checker.redeem(nonce)
    clock.advance(timedelta(seconds=1))
    check_refused(checker, nonce)


def test_another_key_made_no_nonce_of_ours() -> None:
    check_refused(nonces(), nonces(bytes(32)).fresh())


@pytest.mark.parametrize("nonce", [None, "", "n", "A" * 72, "A" * 71, "A" * 76, "é" * 72])
def test_anything_else_is_refused(nonce: str | None) -> None:
    check_refused(nonces(), nonce)


@given(st.integers(0, 71), st.characters())
def test_a_changed_character_is_refused(place: int, character: str) -> None:
    checker = nonces()
    nonce = checker.fresh()
    changed = nonce[:place] + character + nonce[place + 1 :]
    if changed != nonce:
        check_refused(checker, changed)


def test_a_short_key_is_no_key() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        nonces(b"short")


class PlayedLedger:
    """Numbers from 0 on, in one epoch."""

    def __init__(self, epoch: bytes = bytes(16)) -> None:
        self.epoch = epoch
        self.used: set[int] = set()
        self._next = 0

    def draw(self) -> int:
        self._next += 1
        return self._next

    def use_up(self, number: int) -> bool:
        fresh = number not in self.used
        self.used.add(number)
        return fresh


def numbered(ledger: PlayedLedger, clock: FixedClock | None = None) -> Nonces:
    return Nonces(key=KEY, clock=clock or FixedClock(NOW), random=secrets.token_bytes, ledger=ledger)


def test_with_a_ledger_nothing_is_left_for_the_store_to_redeem() -> None:
    ledger = PlayedLedger()
    nonce = numbered(ledger).fresh()
    assert len(base64.urlsafe_b64decode(nonce)) == 42
    assert numbered(ledger).redeem(nonce) is None
    check_refused(numbered(ledger), nonce)


def test_the_ledger_is_asked_only_about_nonces_that_are_ours_and_young() -> None:
    ledger, clock = PlayedLedger(), FixedClock(NOW)
    maker = numbered(ledger, clock)
    nonce = maker.fresh()
    changed = ("B" if nonce[0] == "A" else "A") + nonce[1:]
    check_refused(maker, changed)
    clock.advance(LIFETIME)
    check_refused(maker, nonce)
    assert ledger.used == set()


def test_nonces_of_another_epoch_or_without_one_are_not_ours() -> None:
    check_refused(numbered(PlayedLedger(b"1" * 16)), numbered(PlayedLedger(b"2" * 16)).fresh())
    check_refused(numbered(PlayedLedger()), nonces().fresh())
    check_refused(nonces(), numbered(PlayedLedger()).fresh())
