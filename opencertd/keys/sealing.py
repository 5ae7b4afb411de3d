"""Secrets in the database, encrypted under a key in a file beside it: who has the one has nothing without the other.

AES-256-GCM (NIST SP 800-38D) with a random nonce; the secret's name is authenticated with it, so that nobody who
writes to the database can put one in another's place.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from opencertd.errors import Refusal, RefusalKind, StartError

EAB_FILE = "acme-eab.key"
"""The name of the file, beside the CA's keys, under which keys for external account binding are encrypted."""

_NONCE = 12


class Sealing:
    """`file`: 32 bytes in hex, mode 0600. It is read when it is needed, each time: it may be put there later."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def seal(self, name: str, secret: bytes) -> bytes:
        """The secret encrypted. Makes the file when it is not there. Raises StartError, OSError. Blocks."""
        if not self._file.exists():
            self._make()
        nonce = secrets.token_bytes(_NONCE)
        return nonce + AESGCM(self._key()).encrypt(nonce, secret, name.encode())

    def open(self, name: str, sealed: bytes) -> bytes:
        """The secret. Refusal UNAVAILABLE when the file is missing or not the one it was sealed with. Blocks."""
        try:
            return AESGCM(self._key()).decrypt(sealed[:_NONCE], sealed[_NONCE:], name.encode())
        except (StartError, OSError, InvalidTag, ValueError):
            why = "a secret of this CA cannot be read on this node; its operator has to look at it"
            raise Refusal(RefusalKind.UNAVAILABLE, why, retry_after=60) from None

    def _make(self) -> None:
        """Two that do this at once end with one file: a link to a whole one is made or was there."""
        temporary = self._file.with_name(f".{self._file.name}.{secrets.token_hex(8)}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(f"{secrets.token_hex(32)}\n")
                file.flush()
                os.fsync(file.fileno())
            owner = self._file.parent.stat()
            if os.geteuid() == 0:  # the daemon must be able to read it
                os.chown(temporary, owner.st_uid, owner.st_gid)
            try:
                os.link(temporary, self._file)
            except FileExistsError:
                return
        finally:
            temporary.unlink()

    def _key(self) -> bytes:
        text = self._file.read_text("ascii", errors="replace").strip()
        try:
            key = bytes.fromhex(text)
        except ValueError:
            key = b""
        if len(key) != 32:
            raise StartError(
                f"the file {self._file} is damaged: it should hold 64 hex digits. Restore it from a backup."
            )
        return key
