"""References to private keys: the name of a file in the state directory, or an RFC 7512 URI of a key in a token.

Only what names the key is in the URI (`object`, `id`); which module and token, and the PIN, are settings, so that a
database never holds the way into a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard
from urllib.parse import quote, unquote, unquote_to_bytes

SCHEME = "pkcs11:"


def in_token(reference: str | None) -> TypeGuard[str]:
    """Whether the key is in a token; else the reference is a file's name, or None: the key was taken away."""
    return reference is not None and reference.startswith(SCHEME)


@dataclass(frozen=True)
class KeyUri:
    """A private key in a token: its label (CKA_LABEL) and its id (CKA_ID)."""

    label: str
    id: bytes

    def __str__(self) -> str:
        percent = "".join(f"%{byte:02x}" for byte in self.id)
        return f"{SCHEME}object={quote(self.label, safe='')};id={percent}"


def parse_key_uri(text: str) -> KeyUri:
    """The key of `pkcs11:object=…;id=…` (RFC 7512 §2.3). Raises ValueError in words."""
    if not in_token(text):
        raise ValueError(f"{text!r} is not a {SCHEME} URI")
    found: dict[str, str] = {}
    for part in text.removeprefix(SCHEME).split(";"):
        name, equals, value = part.partition("=")
        if not equals or name not in {"object", "id"} or name in found:
            raise ValueError(f"{text!r} should be {SCHEME}object=LABEL;id=%01%02 and nothing else")
        found[name] = value
    if not found.get("object") or not found.get("id"):
        raise ValueError(f"{text!r} needs both object and id")
    return KeyUri(unquote(found["object"], errors="strict"), unquote_to_bytes(found["id"]))
