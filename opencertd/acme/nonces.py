"""Nonces that any worker can check: random bytes and the time of making, under a MAC with a key all workers share.

A nonce is not stored when it is given out, only when it is used: giving one costs a hash, and a client may use it with
whichever worker it meets next (RFC 8555 §6.5). Where all workers share a machine, a `NonceLedger` in their memory
says which were used, and a request that only reads changes nothing in the store; else each used nonce is a row
(`AcmeStore.begin`).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from opencertd.acme.encoding import b64url, parse_b64url
from opencertd.acme.store import UnusedNonce
from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind

# With time and MAC a multiple of 3 bytes, so that base64url has one spelling and no stray bits.
_RANDOM = 20
_NUMBER = 8  # in its place where a ledger numbers them: nobody can guess the MAC, and to ask for randomness takes time
_TIME = 4
_MAC = 30
LIFETIME = timedelta(hours=1)
SKEW = timedelta(minutes=10)
"""How far apart the nodes' clocks may be: used nonces are remembered this much longer than they would be accepted."""


class NonceLedger(Protocol):
    """Numbers that are drawn once and used up once, by all processes that share it. Nothing here waits.

    `epoch`: another one whenever what was used up may have been forgotten; numbers of an older one are worth nothing.
    """

    @property
    def epoch(self) -> bytes:
        """16 bytes."""

    def draw(self) -> int:
        """A number below 2^64 that nobody else has drawn in this epoch."""

    def use_up(self, number: int) -> bool:
        """Whether this call, of all there ever are, is the one that uses the number up."""


class Nonces:
    """Makes, checks and redeems nonces.

    `key`: at least 32 secret bytes, the same in all workers; `random`: n → n bytes. All workers that share the key
    have the same ledger, or none.
    """

    def __init__(
        self,
        *,
        key: bytes,
        clock: Clock,
        random: Callable[[int], bytes],
        ledger: NonceLedger | None = None,
    ) -> None:
        if not 32 <= len(key) <= hashlib.blake2b.MAX_KEY_SIZE:
            raise ValueError("the nonce key must have at least 32 bytes, and 64 at most")
        self._prefix = b"acme-nonce" if ledger is None else b"acme-nonce:" + ledger.epoch
        self._key = key
        self._clock = clock
        self._random = random
        self._ledger = ledger
        self._own = _RANDOM if ledger is None else _NUMBER

    def fresh(self) -> str:
        """A new nonce, valid for `LIFETIME` from now: 72 characters of base64url, or 56 by a ledger."""
        own = self._random(_RANDOM) if self._ledger is None else self._ledger.draw().to_bytes(_NUMBER, "big")
        content = own + int(self._clock.now().timestamp()).to_bytes(_TIME, "big")
        return b64url(content + self._mac(content))

    def redeem(self, nonce: str | None) -> UnusedNonce | None:
        """Check a nonce and use it up: what is left for the store to do, or None when nothing is.

        Raises BAD_NONCE unless it is one of ours, still young, and, as far as the ledger says, not used.
        """
        try:
            data = parse_b64url(nonce, "the nonce")
        except Refusal:
            data = b""
        content, mac = data[:-_MAC], data[-_MAC:]
        if nonce is None or len(content) != self._own + _TIME or not hmac.compare_digest(mac, self._mac(content)):
            raise Refusal(RefusalKind.BAD_NONCE, "the nonce was not made by this server")
        expires = datetime.fromtimestamp(int.from_bytes(content[self._own :], "big"), UTC) + LIFETIME
        if self._clock.now() >= expires:
            raise Refusal(RefusalKind.BAD_NONCE, "the nonce is too old")
        if self._ledger is None:
            return UnusedNonce(nonce, expires + SKEW)
        if not self._ledger.use_up(int.from_bytes(content[:_NUMBER], "big")):
            raise Refusal(RefusalKind.BAD_NONCE, "this nonce was used before")
        return None

    def _mac(self, content: bytes) -> bytes:
        # Not HMAC: Python lets other threads run for that, and has to wait for its turn afterwards.
        return hashlib.blake2b(self._prefix + content, key=self._key, digest_size=_MAC).digest()
