"""The PIN of a token, from a file, and the memory of one that was refused: tokens lock after a few wrong ones.

A daemon that is started again and again, or in many workers, must not use up a token's tries by itself. So a refused
PIN is remembered as a salted scrypt hash beside the CA, and not tried again before the PIN file holds another.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opencertd.keys.files import open_shared
from opencertd.keys.token_errors import TokenError

_SALT = 16


class PinFile:
    """The PIN on the first line of `path`; `memory` keeps what was refused, and is the turn of who logs in."""

    def __init__(self, path: Path, memory: Path) -> None:
        self._path = path
        self._memory = memory

    @contextmanager
    def trying(self) -> Iterator[PinTry]:
        """The PIN, for one login at a time among all processes of this machine. Raises TokenError in words."""
        pin = self._read()
        descriptor = open_shared(self._memory)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            refused = os.read(descriptor, 1000)
            if refused and hmac.compare_digest(_hash(pin, refused[:_SALT]), refused[_SALT:]):
                raise TokenError(
                    f"the token has refused the PIN in {self._path} before, and it is not tried again, because tokens "
                    f"lock: put the right PIN there (or, if it is right by now, remove {self._memory})",
                    "its token refuses the login",
                )
            attempt = PinTry(pin)
            try:
                yield attempt
            finally:
                if attempt.accepted is not None:
                    salt = secrets.token_bytes(_SALT)
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, b"" if attempt.accepted else salt + _hash(pin, salt), 0)
                    os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def __str__(self) -> str:
        return str(self._path)

    def _read(self) -> str:
        words = "its token cannot be logged in to"
        try:
            lines = self._path.read_text("utf-8").splitlines()
        except OSError as error:
            raise TokenError(f"cannot read the PIN file {self._path}: {error.strerror}", words) from None
        except UnicodeDecodeError:
            raise TokenError(f"the PIN file {self._path} is not UTF-8 text", words) from None
        if not lines or not lines[0]:
            raise TokenError(f"the PIN file {self._path} is empty: put the token's user PIN on its first line", words)
        return lines[0]


class PinTry:
    """One use of the PIN. Set `accepted` when the token has said yes or no to it."""

    def __init__(self, pin: str) -> None:
        self.pin = pin
        self.accepted: bool | None = None


def _hash(pin: str, salt: bytes) -> bytes:
    return hashlib.scrypt(pin.encode(), salt=salt, n=1 << 14, r=8, p=1)
