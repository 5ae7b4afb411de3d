"""Nonces that any worker can check: random bytes and the time of making, under a MAC with a key all workers share.

A nonce is not stored when it is given out, only when it is used (`AcmeStore.redeem_nonce`): giving one costs a hash,
and a client may use it with whichever worker it meets next (RFC 8555 §6.5).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from opencertd.acme.encoding import b64url, parse_b64url
from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind

_RANDOM = 18  # with time and MAC a multiple of 3 bytes, so that base64url has one spelling and no stray bits
_TIME = 4
_LENGTH = _RANDOM + _TIME + hashlib.sha256().digest_size
LIFETIME = timedelta(hours=1)
SKEW = timedelta(minutes=10)
"""How far apart the nodes' clocks may be: used nonces are remembered this much longer than they would be accepted."""


class Nonces:
    """Makes and checks nonces. `key`: at least 32 secret bytes, the same in all workers; `random`: n → n bytes."""

    def __init__(self, *, key: bytes, clock: Clock, random: Callable[[int], bytes]) -> None:
        if len(key) < 32:
            raise ValueError("the nonce key must have at least 32 bytes")
        self._key = key
        self._clock = clock
        self._random = random

    def fresh(self) -> str:
        """A new nonce, valid for `LIFETIME` from now: 72 characters of base64url."""
        made = int(self._clock.now().timestamp()).to_bytes(_TIME, "big")
        content = self._random(_RANDOM) + made
        return b64url(content + self._mac(content))

    def check(self, nonce: str | None) -> datetime:
        """When a used nonce may be forgotten. Raises BAD_NONCE unless it is one of ours and still young."""
        try:
            data = parse_b64url(nonce, "the nonce")
        except Refusal:
            data = b""
        content, mac = data[: _RANDOM + _TIME], data[_RANDOM + _TIME :]
        if len(data) != _LENGTH or not hmac.compare_digest(mac, self._mac(content)):
            raise Refusal(RefusalKind.BAD_NONCE, "the nonce was not made by this server")
        expires = datetime.fromtimestamp(int.from_bytes(content[_RANDOM:], "big"), UTC) + LIFETIME
        if self._clock.now() >= expires:
            raise Refusal(RefusalKind.BAD_NONCE, "the nonce is too old")
        return expires + SKEW

    def _mac(self, content: bytes) -> bytes:
        return hmac.digest(self._key, b"acme-nonce" + content, "sha256")
