"""Keeps the file of checkpoints: whichever worker holds the job's lease signs how far the audit chain has grown.

The file is in the state directory of that worker's node; it is only ever appended to, and readable by its owner alone.
Copy it elsewhere, or let it be fetched: it says nothing secret, and what it proves is worth most where the database's
administrator cannot reach it.
"""

from __future__ import annotations

import fcntl
import os
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from twisted.logger import Logger

from opencertd.clock import Clock
from opencertd.issuance.checkpoints import Checkpoint, encode_line, parse_line, sign_checkpoint
from opencertd.jobs.store import Job
from opencertd.keys.signer import Elsewhere
from opencertd.model.audit import AuditHead
from opencertd.own_certificates import OwnCertificates
from opencertd.store.audit import SqlAuditStore

JOB_KIND = "audit-checkpoint"
JOB_KEY = "chain"
FILE_NAME = "audit-checkpoints.jsonl"

_LOOK = timedelta(seconds=10)
_TAIL = 16384
"""Bytes at the file's end in which its last line lies: a line has two thousand or so."""


class CheckpointKeeper:
    """Writes a checkpoint when the chain has grown by `rows` entries, or at all within `period`, since the last one."""

    _log = Logger()

    def __init__(
        self,
        *,
        audit: SqlAuditStore,
        own: OwnCertificates,
        file: Path,
        node: str,
        clock: Clock,
        elsewhere: Elsewhere[Checkpoint | None],
        rows: int,
        period: timedelta,
    ) -> None:
        self._audit = audit
        self._own = own
        self._file = file
        self._node = node
        self._clock = clock
        self._elsewhere = elsewhere
        self._rows = rows
        self._period = period
        self._disagreed = False

    async def job(self, job: Job) -> datetime | None:
        """The job of kind `audit-checkpoint`: answers when to look again."""
        last = await self._elsewhere(lambda: last_checkpoint(self._file))
        if last is not None:
            await self._check(last)
        head = await self._audit.head()
        if self._is_due(head, last):
            await self._write(head)
        return self._clock.now() + min(_LOOK, self._period)

    def _is_due(self, head: AuditHead, last: Checkpoint | None) -> bool:
        if last is None:
            return head.sequence > 0
        if head.sequence <= last.sequence:
            return False
        return head.sequence - last.sequence >= self._rows or self._clock.now() - last.at >= self._period

    async def _check(self, last: Checkpoint) -> None:
        """Notice at once what `opencert audit verify` would find: that the chain is not the one of the checkpoint."""
        entry = await self._audit.entry(last.sequence)
        agrees = entry is not None and entry.hash == last.hash
        if not agrees and not self._disagreed:
            self._log.critical(
                "the audit log is not the one of the checkpoint of entry {sequence}: run `opencert audit verify`",
                sequence=last.sequence,
            )
        self._disagreed = not agrees

    async def _write(self, head: AuditHead) -> None:
        own = await self._own.audit_checkpoint()
        if not isinstance(own.key, ec.EllipticCurvePrivateKey):
            raise TypeError("checkpoints are signed by EC keys")
        now = self._clock.now().replace(microsecond=0)
        signed = sign_checkpoint(Checkpoint(head.sequence, head.hash, now, self._node), own.certificate, own.key)
        line = encode_line(signed)
        await self._elsewhere(lambda: append_line(self._file, line))


def append_line(file: Path, line: bytes) -> None:
    """Add the line durably; the file is made, mode 0600, where it is missing. Blocks."""
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        end = os.lseek(descriptor, 0, os.SEEK_END)
        if end and os.pread(descriptor, 1, end - 1) != b"\n":
            line = b"\n" + line  # a crash cut the last line short
        os.write(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def last_checkpoint(file: Path) -> Checkpoint | None:
    """What the last whole line says; None without a file or a line. Blocks."""
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, opened.seek(0, os.SEEK_END) - _TAIL))
            lines = opened.read().splitlines()
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        try:
            return parse_line(line).checkpoint
        except ValueError:
            continue
    return None
