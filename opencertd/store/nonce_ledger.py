"""Which nonces were used, in memory that all processes on one SQLite database share: a used one costs no commit.

A file beside the database is mapped by every process that has the database open; each draws numbers from a region of
its own, and any process uses up any number. A number's place in its region holds the highest number used up there, so
a number is good once, and never after a later one of the same place: the memory is bounded, and to forget is to refuse.

Nothing waits: two processes that use up the same number at once meet at a lock on its eight bytes, and whoever does
not get it at once has lost. A process that dies lets go of its region and leaves what it had used up in the file.
What a power cut might undo is never believed: whoever opens the file while nobody has it begins a new epoch, in which
no earlier number counts. Clients then get `badNonce` with a nonce that is good, and ask again (RFC 8555 §6.5).
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import struct
from pathlib import Path

from sqlalchemy import make_url

from opencertd.errors import StartError

_EPOCH = 16  # bytes at the beginning of the file
_HEAD = mmap.PAGESIZE
REGIONS = 64  # processes at a time
PLACES = 1 << 17  # a nonce is forgotten when so many others of its region were given out and used
_REGION_BITS = 16
_NUMBER = struct.Struct("=Q")
_SIZE = _HEAD + REGIONS * PLACES * _NUMBER.size  # sparse: a region costs what was written of it
_FLOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux: type, whence, start, length, pid


class SharedNonceLedger:
    """The `NonceLedger` of one process. Blocks for a moment while it is opened; raises StartError."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX)  # one at a time through this door
                self._region = self._enter()
                fcntl.flock(self._file, fcntl.LOCK_UN)
            except OSError:
                os.close(self._file)
                raise
        except OSError as error:
            raise StartError(f"The file {path} cannot be used: {error.strerror}.") from error
        self.epoch = self._map[:_EPOCH]
        start = _HEAD + self._region * PLACES * _NUMBER.size
        used = memoryview(self._map)[start : start + PLACES * _NUMBER.size].cast("Q")
        # Beyond every place that a forerunner in this region has used up, and what it may have given out besides.
        self._next = max(used) + PLACES
        used.release()

    def _enter(self) -> int:
        """Map the file, begin an epoch when nobody else has it, and hold a free region; its number."""
        alone = not any(self._held_elsewhere(region) for region in range(REGIONS))
        if alone:
            os.ftruncate(self._file, 0)
        os.ftruncate(self._file, _SIZE)
        self._map = mmap.mmap(self._file, _SIZE)
        if alone:
            self._map[:_EPOCH] = secrets.token_bytes(_EPOCH)
        for region in range(REGIONS):
            if self._lock(fcntl.F_WRLCK, _EPOCH + region, 1):
                return region
        raise OSError(0, f"{REGIONS} processes have it open")

    def draw(self) -> int:
        """A number nobody else has drawn: its upper part counts, its lower 16 bits are the region."""
        self._next += 1
        return self._next << _REGION_BITS | self._region

    def use_up(self, number: int) -> bool:
        """Whether this call is the one that uses the number up. For numbers of this epoch only."""
        count, region = number >> _REGION_BITS, number & ((1 << _REGION_BITS) - 1)
        if region >= REGIONS:
            return False
        place = _HEAD + (region * PLACES + count % PLACES) * _NUMBER.size
        if not self._lock(fcntl.F_WRLCK, place, _NUMBER.size):
            return False
        try:
            if _NUMBER.unpack_from(self._map, place)[0] >= count:
                return False
            _NUMBER.pack_into(self._map, place, count)
            return True
        finally:
            self._lock(fcntl.F_UNLCK, place, _NUMBER.size)

    def close(self) -> None:
        """Let go of the region."""
        self._map.close()
        os.close(self._file)

    def _lock(self, kind: int, start: int, length: int) -> bool:
        """Lock or unlock bytes of the file for this object (open file description locks, fcntl(2)); never waits."""
        try:
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, start, length, 0))
        except BlockingIOError:
            return False
        return True

    def _held_elsewhere(self, region: int) -> bool:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _EPOCH + region, 1, 0)
        answer: bytes = fcntl.fcntl(self._file, fcntl.F_OFD_GETLK, asked)
        return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def open_nonce_ledger(database_url: str) -> SharedNonceLedger | None:
    """The ledger of a SQLite database; None for one that other machines share, where a used nonce is a row."""
    url = make_url(database_url)
    if url.drivername != "sqlite" or not url.database:
        return None
    path = Path(url.database).absolute()
    return SharedNonceLedger(path.with_name(path.name + ".nonces"))
