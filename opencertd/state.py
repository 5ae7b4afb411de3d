"""The state directory: who may read what in it, and that only one daemon runs on it.

`keys/` CA keys · `own/` the daemon's TLS, OCSP responder and audit keys with their certificates · `pending/` CAs that
wait for their certificate by another CA · `trust-anchors.pem` what clients trust · `audit-checkpoints.jsonl` how far
the audit chain had grown, signed · `node` this node's name among those that share a database · `lock` held while a
daemon runs, `deed-lock` while a command rolls an issuer over.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opencertd.errors import StartError
from opencertd.keys.files import open_shared, write_secret


class StateDirectory:
    """Paths of one state directory, which exists (0700) from construction on. Raises StartError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keys = path / "keys"
        self.own = path / "own"
        self.trust_anchors = path / "trust-anchors.pem"
        self._lock: int | None = None
        try:
            for directory in (path, self.keys, self.own):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(
                f"cannot use the state directory {path}: {error.strerror}. Give another one with --state-dir."
            ) from None
        if not os.access(path, os.W_OK | os.X_OK):
            raise StartError(
                f"the state directory {path} is not writable for this user. Give another with --state-dir."
            )

    def lock(self) -> None:
        """Hold the directory for this process until it ends, however it ends."""
        descriptor = open_shared(self.path / "lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise StartError(
                f"another opencertd runs on the state directory {self.path}. Stop it, or give another with --state-dir."
            ) from None
        self._lock = descriptor

    def unlock(self) -> None:
        """Let go of the directory before the process ends."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextmanager
    def one_deed(self) -> Iterator[None]:
        """Hold off other commands that change the CA, while the daemon may run on. Raises StartError at once."""
        descriptor = open_shared(self.path / "deed-lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise StartError(
                f"another command is at work on the CA in {self.path}: let it end, then try again"
            ) from None
        try:
            yield
        finally:
            os.close(descriptor)

    def node(self) -> str:
        """This node's name: drawn at first start, the same ever after."""
        path = self.path / "node"
        if not path.exists():
            write_secret(path, f"{secrets.token_hex(8)}\n".encode())
        name = path.read_text("ascii", errors="replace").strip()
        if not re.fullmatch(r"[0-9a-f]{16}", name):
            raise StartError(f"the file {path} is damaged: it should hold 16 hex digits. Remove it to draw a new name.")
        return name

    def publish_trust_anchors(self, content: bytes) -> None:
        """Write what clients trust, readable by everybody, where it is not what is there."""
        if self.trust_anchors.exists() and self.trust_anchors.read_bytes() == content:
            return
        write_secret(self.trust_anchors, content, 0o644)
