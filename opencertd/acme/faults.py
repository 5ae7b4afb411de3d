"""Mistakes on purpose, for people who write ACME clients (`--test-faults`), as Pebble makes them: which, and when.

What clients hardly ever meet elsewhere, and must live with: a good nonce that is refused, a validation that takes its
time, a proof that serves the next order or does not, an order that becomes invalid when it is finalized. None of them
gives anybody a certificate who would not get it otherwise.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass

HEADER = "Opencertd-Test-Faults"
"""On every answer of the ACME edge."""


@dataclass(frozen=True)
class FaultTerms:
    """How many of a hundred: `nonces` that are refused though they are good, orders that take proofs of before
    (`reuse`), `orders` that become invalid; besides, each `every_order`th one (0: none). `seconds`: what a validation
    waits at most.
    """

    nonces: int = 5
    seconds: float = 5.0
    reuse: int = 50
    orders: int = 0
    every_order: int = 0

    def __str__(self) -> str:
        parts = [f"nonces={self.nonces}%", f"validation={self.seconds:g}s", f"reuse={self.reuse}%"]
        return ", ".join((*parts, f"invalid-orders={self.orders}%", f"invalid-order-every={self.every_order or 'off'}"))


class Faults:
    """Which mistake is made when. `random`: n → n random bytes."""

    def __init__(self, terms: FaultTerms, random: Callable[[int], bytes]) -> None:
        self.terms = terms
        self._random = random
        self._orders = itertools.count(1)

    def refuses_nonce(self, nonce: str) -> bool:
        """Whether this nonce is one that is refused: by whatever worker, and as often as it is tried."""
        return _falls_below(hashlib.sha256(nonce.encode("utf-8", "replace")).digest()[:4], self.terms.nonces)

    def seconds(self) -> float:
        """How long a validation is to wait, from 0 to what the terms say."""
        return self.terms.seconds * int.from_bytes(self._random(4), "big") / 0x100000000

    def reuses(self) -> bool:
        """Whether an order may take proofs of before."""
        return _falls_below(self._random(4), self.terms.reuse)

    def spoils_order(self) -> bool:
        """Whether the next order that is finalized in this process becomes invalid."""
        number = next(self._orders)
        each = self.terms.every_order
        return bool(each and number % each == 0) or _falls_below(self._random(4), self.terms.orders)


def _falls_below(drawn: bytes, percent: int) -> bool:
    return int.from_bytes(drawn, "big") * 100 < percent << 8 * len(drawn)
