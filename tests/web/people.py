"""Users files with hashes that cost nothing, and a place to write used nonces down."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from twisted.internet.defer import execute

from opencertd.clock import FixedClock
from opencertd.errors import Refusal, RefusalKind
from opencertd.web.users import DIGEST_ALGORITHMS, User, Users, digest_secret, encode_users

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)

_CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def person(name: str, password: str, *, digest: bool = False, names: tuple[str, ...] = ("*",)) -> User:
    digests = {algorithm: digest_secret(algorithm, name, password) for algorithm in DIGEST_ALGORITHMS}
    return User(name, _CHEAP.hash(password), names, digests if digest else {})


def write_users(path: Path, *users: User) -> Path:
    fresh = path.with_suffix(".new")
    fresh.touch(0o600)
    fresh.write_bytes(encode_users({user.name: user for user in users}))
    return fresh.replace(path)


def users_of(path: Path, *people: User, clock: FixedClock | None = None, **options: Any) -> Users:
    """Users whose file is read and whose passwords are hashed inline."""
    write_users(path, *people)
    options.setdefault("in_thread", execute)
    return Users(path, clock=clock or FixedClock(NOW), **options)


class Used:
    """What was redeemed, as several workers would share it."""

    def __init__(self) -> None:
        self.keys: dict[str, datetime] = {}

    async def redeem(self, key: str, expires: datetime) -> None:
        if key in self.keys:
            raise Refusal(RefusalKind.BAD_NONCE, "used")
        self.keys[key] = expires
