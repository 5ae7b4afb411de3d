"""The audit chain: every deed is an entry, and each entry holds the hash of the one before it.

An entry's hash is SHA-256 over the previous entry's hash (32 bytes; zeros before the first) and the entry's canonical
bytes: a JSON array, ASCII, without white space, of everything in it. So nothing in the chain can be edited, removed,
inserted or moved without a hash that does not fit, and what is cut off at its end misses what a checkpoint names.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

FORMAT = "opencertd-audit-1"
"""First member of the canonical bytes; another one will mean another order of members."""

START = bytes(32)
"""What stands in the first entry for the hash of the one before it."""

FIRST = 1
"""The first entry's number; the next one's is one more, without gaps."""

DONE = "done"
"""The result of a deed that was done; a refused one has the kind of its refusal."""

_MOST_TEXT = 2000
_COMPACT = json.JSONEncoder(separators=(",", ":"))  # made once: `json.dumps` makes one at every call
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Deed(enum.Enum):
    """What is recorded. Every use of an issuer's key is one of those marked with *."""

    ISSUE = "issue"  # * a certificate was signed and stored, or the request for it refused
    SIGN_PRECERTIFICATE = "sign-precertificate"  # * for logs of Certificate Transparency; `issue` or `abandon` follows
    ABANDON = "abandon"  # * a certificate was to be signed; whether it was is not known, nobody was given it
    REVOKE = "revoke"  # or put on hold: the reason says so
    REINSTATE = "reinstate"
    SIGN_CRL = "sign-crl"  # *
    ADD_ISSUER = "add-issuer"
    CHANGE_CA = "change-ca"  # a rollover, a retirement, an import, a key taken away: `what` says which
    MOVE_KEY = "move-key"  # * an issuer's key is elsewhere now, and has signed a probe there
    CHANGE_ACCOUNT = "change-account"  # an ACME account was bound, blocked, unblocked or closed: `what` says which
    CHANGE_EAB_KEY = "change-eab-key"  # a key for external account binding was made or revoked
    CHANGE_ENROLMENT_PASSWORD = "change-enrolment-password"  # noqa: S105  (made or revoked; its uses are `issue`)
    APPROVAL = "approval"  # a request that a person decides about was made, decided, used or has expired: `what` says
    SETTINGS = "settings"  # what the daemon was started with, or goes by since a reload


@dataclass(frozen=True)
class AuditEvent:
    """A deed to be recorded. `proof` and `who`: how the actor proved who it is, and its id; `label`: a person's word.

    `at`: aware UTC, kept to milliseconds. `what`: what it was about, as JSON can say it; names and numbers, never
    secrets. `result`: `done` or the kind of the refusal. `tbs_sha256`: SHA-256 (hex) of the bytes that an issuer's key
    signed or was to sign. Texts are kept to 2,000 characters that every database can hold.
    """

    deed: Deed
    proof: str
    who: str
    label: str
    at: datetime
    what: Mapping[str, Any] = field(default_factory=dict)
    result: str = DONE
    tbs_sha256: str | None = None


@dataclass(frozen=True)
class AuditEntry:
    """An event in its place in the chain. `what` is the event's as compact JSON; hashes are 32 bytes."""

    sequence: int
    at: datetime
    deed: str
    proof: str
    who: str
    label: str
    what: str
    result: str
    tbs_sha256: str | None
    previous: bytes
    hash: bytes

    def is_whole(self) -> bool:
        """Whether the hash is that of this content, whatever somebody may have put into its place."""
        try:
            return hash_of(self.previous, self.canonical()) == self.hash
        except (TypeError, ValueError):  # SQLite keeps whatever is put into a column
            return False

    def canonical(self) -> bytes:
        """The bytes that are hashed after the previous hash."""
        return canonical(
            self.sequence, self.at, self.deed, self.proof, self.who, self.label, self.what, self.result, self.tbs_sha256
        )


@dataclass(frozen=True)
class AuditHead:
    """The end of the chain: the last entry's number and hash; 0 and zeros of an empty one."""

    sequence: int = FIRST - 1
    hash: bytes = START


def canonical(sequence: int, at: datetime, *rest: str | None) -> bytes:
    """The canonical bytes of an entry's members, in their order; the time in milliseconds since 1970."""
    members = [FORMAT, sequence, (at - EPOCH) // timedelta(milliseconds=1), *rest]
    return _COMPACT.encode(members).encode("ascii")


def hash_of(previous: bytes, canonical_bytes: bytes) -> bytes:
    """The chain's rule."""
    return hashlib.sha256(previous + canonical_bytes).digest()


def next_entry(head: AuditHead, event: AuditEvent) -> AuditEntry:
    """The event as the entry after `head`."""
    sequence = head.sequence + 1
    milliseconds = event.at.microsecond // 1000 * 1000
    at = event.at if event.at.microsecond == milliseconds else event.at.replace(microsecond=milliseconds)
    deed, proof, who, label = event.deed.value, _text(event.proof), _text(event.who), _text(event.label)
    what, result = _json(event.what), _text(event.result)
    members = canonical(sequence, at, deed, proof, who, label, what, result, event.tbs_sha256)
    return AuditEntry(
        sequence=sequence,
        at=at,
        deed=deed,
        proof=proof,
        who=who,
        label=label,
        what=what,
        result=result,
        tbs_sha256=event.tbs_sha256,
        previous=head.hash,
        hash=hash_of(head.hash, members),
    )


def _text(text: str) -> str:
    """`text` without what a database cannot keep (NUL, half of a surrogate pair), and bounded."""
    if text.isascii() and text.isprintable() and len(text) <= _MOST_TEXT:
        return text
    kept = text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"
    return "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in kept)


def _json(what: Mapping[str, Any]) -> str:
    """Compact JSON in ASCII, in which no text is longer than the bound; NUL and surrogates are escapes in it."""
    return _COMPACT.encode({key: _bounded(value) for key, value in what.items()})


def _bounded(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _MOST_TEXT else value[: _MOST_TEXT - 1] + "…"
    if isinstance(value, list | tuple):
        return [_bounded(one) for one in value]
    return value
