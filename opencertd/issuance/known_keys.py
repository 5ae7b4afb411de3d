"""Keys that are known to others are refused, by lists in files that may change while the daemon runs.

A list that becomes unreadable or broken changes nothing: the keys known before stay refused, and the log names file and
line. A worker that has not read a list even once lets no key pass: nobody knows what it would have held.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from twisted.logger import Logger

from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.issuance.key_lists import BLOCKLIST, DEBIAN_WEAK, Digests, ListKind, digest_of, parse_list
from opencertd.keys.signer import Elsewhere

LARGEST_FILE = 512 * 1024 * 1024
LOOK_SECONDS = 1.0
"""How often `look_again` is meant to be called; a change counts once it has stayed so from one look to the next."""

_Stamp = tuple[int, ...] | None
_NEVER: _Stamp = ()

_WHY = {
    BLOCKLIST: "it is on this CA's list of compromised keys",
    DEBIAN_WEAK: "its private key is public: Debian's OpenSSL made it when it made few others (CVE-2008-0166)",
}


class _KeyFile:
    """One list as its file stands. Every method but `check` blocks."""

    def __init__(self, path: Path, kind: ListKind) -> None:
        self._path = path
        self._kind = kind
        self._digests: Digests | None = None
        self._read_as: _Stamp = _NEVER
        self._seen_as: _Stamp = _NEVER

    def read(self) -> None:
        """Read the file as it is now. Raises StartError and keeps what is known when that cannot be done."""
        self._read_as = self._seen_as = _stamp(self._path)
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise StartError(f"the list of keys {self._path} is not a file")
                if status.st_size > LARGEST_FILE:
                    raise StartError(f"the list of keys {self._path} is larger than {LARGEST_FILE} bytes")
                self._digests = parse_list(file.read(), self._kind)
        except OSError as error:
            raise StartError(f"the list of keys {self._path} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise StartError(f"the list of keys {self._path}, {error}") from None

    def look_again(self) -> str | None:
        """Read the file if it has changed and is not being written just now; answers what is wrong with it."""
        stamp = _stamp(self._path)
        settled, self._seen_as = stamp == self._seen_as, stamp
        if not settled or stamp == self._read_as:
            return None
        try:
            self.read()
        except StartError as error:
            return str(error)
        return None

    def check(self, spki_der: bytes) -> None:
        """Raise BAD_PUBLIC_KEY when the list has the key, UNAVAILABLE when it was never read."""
        if self._digests is None:
            raise Refusal(RefusalKind.UNAVAILABLE, "no key can be checked at present", retry_after=60)
        digest = digest_of(spki_der, self._kind)
        if digest is not None and digest in self._digests:
            raise Refusal(RefusalKind.BAD_PUBLIC_KEY, f"the public key was refused: {_WHY[self._kind]}")


def _stamp(path: Path) -> _Stamp:
    """What changes when the file does. Mode too: `chmod` mends a file that could not be read."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode)


class KnownKeys:
    """All lists: `blocklist` of SubjectPublicKeyInfo digests, `debian_weak` in the form of openssl-blacklist.

    Nothing is read before `read` or `read_what_can_be`.
    """

    _log = Logger()

    def __init__(self, blocklist: Path | None = None, debian_weak: Sequence[Path] = ()) -> None:
        blocklists = (blocklist,) if blocklist else ()
        self._files = (
            *(_KeyFile(path, BLOCKLIST) for path in blocklists),
            *(_KeyFile(path, DEBIAN_WEAK) for path in debian_weak),
        )

    def __bool__(self) -> bool:
        return bool(self._files)

    def read(self) -> None:
        """Read all files. Raises StartError that names the file, and the line where one is broken. Blocks."""
        for file in self._files:
            file.read()

    def read_what_can_be(self) -> None:
        """As `read`, for a worker that must start: what is wrong is logged. Blocks."""
        for file in self._files:
            try:
                file.read()
            except StartError as error:
                self._log.error("no certificate can be issued until this is mended: {why}", why=str(error))

    async def look_again(self, elsewhere: Elsewhere[list[str]]) -> None:
        """Read what has changed; `elsewhere` takes it off the reactor."""
        faults = await elsewhere(lambda: [fault for file in self._files if (fault := file.look_again())])
        for why in faults:
            self._log.error("{why}; the keys known before stay refused", why=why)

    def check(self, spki_der: bytes) -> None:
        """Raise BAD_PUBLIC_KEY when a list has this well-formed key."""
        for file in self._files:
            file.check(spki_der)
