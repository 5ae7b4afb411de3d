"""Passwords that an operator makes for enrolments to come, each good for so many certificates."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

PREFIX = "otp-"
"""What their names begin with, and no user's does."""

TOLD_AGAIN = timedelta(seconds=60)
"""How long after its last use a password still proves who asks: answers get lost, and the same request is repeated."""

_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # 32 that people do not take for one another


@dataclass(frozen=True)
class EnrolmentPassword:
    """One password, of which only a keyed hash is known (`digest`, see `digest_of`).

    `id`: the user name it goes with. `names`: patterns as in `NameGrant`; `profiles`: None for all. `uses`: how many
    certificates it is good for; `used`: those there are, and `last_used_at` the latest of them (what is being made may
    yet come to nothing: whoever begins another is told by the store).
    `made_by`: `PROOF:ID`.
    """

    id: str
    digest: str
    names: tuple[str, ...]
    profiles: tuple[str, ...] | None
    uses: int
    made_at: datetime
    made_by: str
    until: datetime
    note: str = ""
    revoked_at: datetime | None = None
    used: int = 0
    last_used_at: datetime | None = None

    def why_unusable(self, now: datetime) -> str | None:
        """Why it proves nothing any more, in words that follow its name; None while it does."""
        if self.revoked_at is not None:
            return "was revoked"
        if self.until <= now:
            return "has expired"
        if self.used >= self.uses and (self.last_used_at is None or self.last_used_at + TOLD_AGAIN <= now):
            return "was used up"
        return None


def new_words() -> tuple[str, str]:
    """A name and its password: 120 random bits, so that a fast hash of it can be kept, and nobody guesses it."""
    letters = "".join(secrets.choice(_LETTERS) for _ in range(24))
    name = "".join(secrets.choice(_LETTERS) for _ in range(8))
    return PREFIX + name, "-".join(letters[start : start + 6] for start in range(0, 24, 6))


def digest_of(key: bytes, name: str, password: str) -> str:
    """HMAC-SHA-256 (hex). `key`: the secret that all workers share."""
    own_key = hmac.digest(key, b"opencertd enrolment password", "sha256")
    return hmac.digest(own_key, f"{name}\0{password}".encode(), "sha256").hex()
