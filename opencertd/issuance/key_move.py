"""An issuer's private key moves from its file into a token, and can then be read by nobody.

In this order, so that a crash anywhere leaves a CA that signs, and doing it again finishes it: the key is brought into
the token, a signature by it is checked, the issuer's record is changed, the file is overwritten and removed.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path

from opencertd.errors import StartError
from opencertd.issuance.issuers import read_issuer_key
from opencertd.issuance.store import CertificateStore
from opencertd.keys.key_uri import in_token
from opencertd.keys.kinds import PrivateKey
from opencertd.model.certificates import IssuerRecord


async def move_to_token(
    issuer: str,
    *,
    keys: Path,
    passphrase: bytes | None,
    bring: Callable[[str, PrivateKey], str],
    store: CertificateStore,
) -> str:
    """Move the key of the issuer of that name; answers its new reference.

    `bring` puts a key under a label into the token, makes sure that it signs there, and answers its reference. Raises
    StartError in words.
    """
    records = await store.issuers()
    record = next((record for record in records if record.name == issuer), None)
    if record is None:
        names = ", ".join(record.name for record in records) or "there are none"
        raise StartError(f"there is no issuer {issuer!r} in this CA: {names}")
    if record.key_reference is None:
        raise StartError(f"the key of {issuer} is not here: it was taken away")
    file = _file_of(record.name, record.key_reference, keys)
    if in_token(record.key_reference) and not (keys / file).exists():
        raise StartError(f"the key of {issuer} is in a token already: {record.key_reference}")
    left = IssuerRecord(record.id, issuer, record.role, record.certificate_der, file, record.parent_id)
    reference = bring(issuer, read_issuer_key(left, keys, passphrase))
    if in_token(record.key_reference) and record.key_reference != reference:
        raise StartError(
            f"the key of {issuer} is in a token already ({record.key_reference}), and the one in {keys / file} has not "
            "come from there: move the file away yourself"
        )
    if reference != record.key_reference:
        await store.move_key(record.id, record.key_reference, reference)
    shred(keys / file)
    return reference


def _file_of(name: str, reference: str, keys: Path) -> str:
    """The key's file; after a move that was broken off, the one that is still there."""
    if not in_token(reference):
        return reference
    marked = re.compile(re.escape(name) + r"-[0-9a-f]{8}\.pem")
    left = sorted(path.name for path in keys.glob("*.pem") if marked.fullmatch(path.name))
    return left[0] if left else f"{name}.pem"


def shred(path: Path) -> None:
    """Overwrite the file with random bytes, durably, then remove it. Copies made by the disk or a backup stay."""
    with path.open("r+b") as file:
        file.write(secrets.token_bytes(path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
