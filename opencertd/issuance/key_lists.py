"""Lists of keys that are known to others: one digest in hexadecimal a line, `#` begins a comment.

Two kinds. A blocklist has the SHA-256 of the whole SubjectPublicKeyInfo, as services that collect published private
keys give it. Debian's lists of the keys its OpenSSL could make from 2006 to 2008 (CVE-2008-0166; the package was
openssl-blacklist) have the last 80 bits of a SHA-1: over what `openssl rsa -modulus` prints, line feed included.
"""

from __future__ import annotations

import binascii
import hashlib
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_der_public_key


class Digests:
    """A set of digests of one size. One sorted bytes object: a Python set would take ten times the memory."""

    def __init__(self, digests: Iterable[bytes], size: int) -> None:
        self._size = size
        self._sorted = b"".join(sorted(set(digests)))

    def __len__(self) -> int:
        return len(self._sorted) // self._size

    def __contains__(self, digest: bytes) -> bool:
        return self._at(bisect_left(range(len(self)), digest, key=self._at)) == digest

    def _at(self, index: int) -> bytes:
        return self._sorted[index * self._size : (index + 1) * self._size]


@dataclass(frozen=True)
class ListKind:
    """What the lines of a list are: `size` bytes each, `words` for whoever has to mend one."""

    size: int
    words: str


BLOCKLIST = ListKind(32, "the SHA-256 of a SubjectPublicKeyInfo")
DEBIAN_WEAK = ListKind(10, "the end of a SHA-1, as in the lists of openssl-blacklist")


def parse_list(data: bytes, kind: ListKind) -> Digests:
    """The digests of a file's content. Raises ValueError that begins with the number of the first broken line."""
    return Digests(
        (
            _parse_line(content, number, kind)
            for number, line in enumerate(data.split(b"\n"), 1)
            if (content := line.split(b"#", 1)[0].strip())
        ),
        kind.size,
    )


def _parse_line(content: bytes, number: int, kind: ListKind) -> bytes:
    try:
        digest = binascii.unhexlify(content)
    except binascii.Error:
        digest = b""
    if len(digest) != kind.size:
        shown = content[:80].decode("utf-8", errors="replace")
        raise ValueError(f"line {number}: {shown!r} is not {2 * kind.size} hexadecimal digits ({kind.words})")
    return digest


def digest_of(spki_der: bytes, kind: ListKind) -> bytes | None:
    """What a list of that kind would have for this well-formed key; None when it never has such keys."""
    if kind is BLOCKLIST:
        return hashlib.sha256(spki_der).digest()
    key: PublicKeyTypes = load_der_public_key(spki_der)
    if not isinstance(key, rsa.RSAPublicKey):
        return None
    printed = b"Modulus=%X\n" % key.public_numbers().n
    return hashlib.sha1(printed, usedforsecurity=False).digest()[-kind.size :]
