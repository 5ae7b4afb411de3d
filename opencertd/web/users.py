"""Users prove themselves by a password whose Argon2id hash stands in a file only the daemon reads.

The file is JSON, mode 0600: `{"users": {"NAME": {"argon2": "$argon2id$…", "names": ["*"], "digest": {"MD5": "…",
"SHA-256": "…"}}}}`. The Digest hashes (HA1 of RFC 7616 §3.4.2) are optional, and are password equivalents: whoever
reads one can log in with it as it stands, and guess the password a million times faster than from Argon2. They are
there for clients that can do nothing better; without them Digest is not offered.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import stat
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.keys.files import give_to_owner
from opencertd.model.enrolment_password import PREFIX
from opencertd.model.names import parse_dns_name, parse_email, parse_ip_address, parse_uri
from opencertd.model.requester import NameGrant
from opencertd.tasks import Tasks
from opencertd.web.throttle import Throttle

REALM = "opencertd"
"""The one realm of Basic and Digest; Digest hashes contain it."""

DIGEST_ALGORITHMS: Mapping[str, Callable[[bytes], Any]] = {
    "SHA-256": hashlib.sha256,
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False),
}
"""Strongest first, as they are offered (RFC 7616 §3.7)."""

LARGEST_FILE = 16 * 1024 * 1024
LOOK_AGAIN = timedelta(seconds=1)
REMEMBER = timedelta(minutes=5)
MOST_REMEMBERED = 4096
MOST_WAITING = 32

_HASHER = PasswordHasher(time_cost=3, memory_cost=65536, parallelism=4)  # RFC 9106 §4, second recommendation
_DECOY = "$argon2id$v=19$m=65536,t=3,p=4$k9L/ruSy4CD1Z1B5QhhMKg$UVXQ2e3kS4S8pCLEWtYUbPmyQqkHoh9vkXujZg6UuPo"

InThread = Callable[..., "Deferred[Any]"]


@dataclass(frozen=True)
class User:
    """One user: `argon2` in PHC form, `digests` HA1 in hex by algorithm, `names` patterns as in `NameGrant`."""

    name: str
    argon2: str
    names: tuple[str, ...] = ("*",)
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def grant(self) -> NameGrant:
        """The names this user may have in a certificate."""
        return NameGrant(patterns=self.names)


def digest_secret(algorithm: str, name: str, password: str) -> str:
    """HA1 in hex: hash of `name:realm:password` (RFC 7616 §3.4.2)."""
    return str(DIGEST_ALGORITHMS[algorithm](f"{name}:{REALM}:{password}".encode()).hexdigest())


def parse_users(data: bytes) -> dict[str, User]:
    """The users of a file's content by name. Raises ValueError with words."""
    document = json.loads(data)
    entries = document.get("users") if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        raise ValueError('there is no object "users" in it')  # noqa: TRY004  (the file is at fault, not a caller)
    return {name: _parse_user(name, entry) for name, entry in entries.items()}


def _parse_user(name: str, entry: Any) -> User:
    if not isinstance(entry, dict):
        raise ValueError(f"user {name!r} is no object")  # noqa: TRY004
    argon2, names, digests = entry.get("argon2"), entry.get("names", ["*"]), entry.get("digest", {})
    if not (isinstance(argon2, str) and argon2.startswith("$argon2id$")):
        raise ValueError(f"user {name!r} has no argon2id hash")
    if not (isinstance(names, list) and all(isinstance(pattern, str) for pattern in names)):
        raise ValueError(f'"names" of user {name!r} is no list of patterns')
    if not (isinstance(digests, dict) and all(isinstance(secret, str) for secret in digests.values())):
        raise ValueError(f'"digest" of user {name!r} is no object of hashes')
    return User(name, argon2, tuple(names), digests)


def encode_users(users: Mapping[str, User]) -> bytes:
    """The content of a users file."""
    entries = {
        user.name: {"argon2": user.argon2, "names": list(user.names)}
        | ({"digest": dict(user.digests)} if user.digests else {})
        for user in users.values()
    }
    return json.dumps({"users": entries}, indent=2, ensure_ascii=False).encode() + b"\n"


def read_users(path: Path) -> dict[str, User]:
    """The users of the file. StartError when it is not there, not private, or broken. Blocks."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise StartError(f"the users file {path} is not a file")
            if status.st_mode & 0o077:
                raise StartError(f"the users file {path} may be read by others: chmod 600 {path}")
            if status.st_size > LARGEST_FILE:
                raise StartError(f"the users file {path} is larger than {LARGEST_FILE} bytes")
            return parse_users(file.read())
    except OSError as error:
        raise StartError(f"the users file {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise StartError(f"the users file {path} is broken: {error}") from None


def set_user(path: Path, name: str, password: str, *, digest: bool = False, names: tuple[str, ...] = ("*",)) -> None:
    """Add the user or replace the one of this name; `digest`: keep the Digest hashes too. Blocks for a hash.

    The file appears whole or not at all, mode 0600; two writers take turns. StartError when something is not allowed.
    """
    _check_name(name)
    if not password:
        raise StartError("an empty password lets everybody in")
    for pattern in names:
        check_pattern(pattern)
    digests = {algorithm: digest_secret(algorithm, name, password) for algorithm in DIGEST_ALGORITHMS}
    user = User(name, _HASHER.hash(password), names, digests if digest else {})
    path = path.resolve()
    try:
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            users = read_users(path) if path.exists() else {}
            _replace(path, encode_users(users | {name: user}))
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StartError(f"the users file {path} cannot be written: {error.strerror}") from None


def _replace(path: Path, data: bytes) -> None:
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            give_to_owner(descriptor, path.parent)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _check_name(name: str) -> None:
    """RFC 7617 §2: a colon ends the name in Basic; control characters are in no header."""
    if not name or len(name) > 255:
        raise StartError("a user's name has 1 to 255 characters")
    if ":" in name or not name.isprintable():
        raise StartError(f"the user name {name!r} has a colon or a control character")
    if name.startswith(PREFIX):
        raise StartError(f"names that begin with {PREFIX!r} are those of enrolment passwords")


def check_pattern(pattern: str) -> None:
    """Raise StartError for what is no pattern of names (`NameGrant`)."""
    if pattern == "*":
        return
    for parse in (parse_ip_address, parse_dns_name, parse_email, parse_uri):
        try:
            parse(pattern)
        except Refusal:
            continue
        return
    raise StartError(f"{pattern!r} is no name pattern: give *, *.example.com, or one whole name")


class Users:
    """The users of a file as it now stands, and whether a password is theirs.

    The file is looked at again at most once a second; a broken one changes nothing and is logged. StartError when the
    first look fails. At most `at_once` passwords are hashed at a time (64 MiB and tens of milliseconds each).

    A right password is remembered for five minutes, as a MAC under a key of this process, so that a fleet that
    enrols with one user costs one hash. The trade: whoever reads this process's memory can test guesses against the
    MAC fast; and whoever can do that has seen the password itself go by. A changed hash in the file ends it at once.
    """

    _log = Logger()

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        in_thread: InThread = deferToThread,
        randomness: Callable[[int], bytes] = secrets.token_bytes,
        at_once: int = 2,
        throttle: Throttle | None = None,
    ) -> None:
        self.throttle = throttle or Throttle(clock)
        self._refused = Throttle(clock)  # passwords that nobody looked at, for the wait was not over
        self._path = path
        self._clock = clock
        self._in_thread = in_thread
        self._stamp = _stamp(path)
        self._users = read_users(path)
        self._looked_at = clock.now()
        self._key = randomness(32)
        self._remembered: OrderedDict[bytes, tuple[str, datetime]] = OrderedDict()
        self._slots = DeferredSemaphore(at_once)
        self._tasks = Tasks()

    async def find(self, name: str) -> User | None:
        """The user of this name, by the file as it stands."""
        await self._look_again()
        return self._users.get(name)

    async def offer_digest(self) -> bool:
        """Whether every user could log in by Digest: clients take it whenever it is offered."""
        await self._look_again()
        return bool(self._users) and all(set(user.digests) >= set(DIGEST_ALGORITHMS) for user in self._users.values())

    async def check_password(self, name: str, password: str, address: str = "") -> User:
        """The user whose password this is, sent from `address`.

        Refusal UNAUTHENTICATED, or RATE_LIMITED (then it was not looked at). A name that does not exist takes as long
        as a wrong password.
        """
        user = await self.find(name)
        proof = hmac.digest(self._key, f"{name}\0{password}".encode(), "sha256")
        right = user is not None and self._remembers(user, proof)
        if user is not None and right and await self._may_be_recalled(name, address):
            return user
        try:
            await self.throttle.check(name, address)
        except Refusal:
            if not right:
                await self._refused.failed(name, address)
            raise
        if len(self._slots.waiting) >= MOST_WAITING:
            raise Refusal(RefusalKind.RATE_LIMITED, "too many passwords are being checked", retry_after=2)
        # Shielded: a client that hangs up must not free a place while its hash still runs, nor escape being counted.
        return await self._tasks.shield(self._hash_and_compare(user, name, password, address, proof))

    async def _may_be_recalled(self, name: str, address: str) -> bool:
        """Whoever was made to wait and goes on guessing must not learn from what is remembered which guess is right."""
        try:
            await self._refused.check(name, address, elsewhere=False)
        except Refusal:
            return False
        return True

    async def _hash_and_compare(self, user: User | None, name: str, password: str, address: str, proof: bytes) -> User:
        await self._slots.acquire()
        try:  # the outcome is noted before the next in line begins
            if user is not None and self._remembers(user, proof):
                return user
            await self.throttle.check(name, address)
            expected = _DECOY if user is None else user.argon2
            right = await self._in_thread(_is_right, expected, password)
            if user is None or not right:
                await self.throttle.failed(name, address)
                raise Refusal(RefusalKind.UNAUTHENTICATED, "user name or password is wrong")
            await self.throttle.succeeded(name, address)
            self._remember(user, proof)
            return user
        finally:
            self._slots.release()

    def _remembers(self, user: User, proof: bytes) -> bool:
        argon2, until = self._remembered.get(proof, ("", None))
        return until is not None and argon2 == user.argon2 and self._clock.now() < until

    def _remember(self, user: User, proof: bytes) -> None:
        self._remembered[proof] = (user.argon2, self._clock.now() + REMEMBER)
        self._remembered.move_to_end(proof)
        if len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)

    async def _look_again(self) -> None:
        now = self._clock.now()
        if abs(now - self._looked_at) < LOOK_AGAIN:
            return
        self._looked_at = now
        stamp = await self._in_thread(_stamp, self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._users = await self._in_thread(read_users, self._path)
        except StartError as error:
            self._log.error("{error}; the users known before stay", error=error)


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What changes when the file does. Mode too: `chmod` mends a file that was refused."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode)


def _is_right(argon2: str, password: str) -> bool:
    try:
        return _HASHER.verify(argon2, password)
    except (VerificationError, InvalidHashError):
        return False
