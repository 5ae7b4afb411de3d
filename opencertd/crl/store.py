"""What is kept of CRLs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias

from twisted.internet.defer import Deferred

from opencertd.model.crl_parts import ALL, Part, parse_part

DELTA = "delta"
APART = "apart"

Entries: TypeAlias = tuple[bytes, ...]
"""Blocks of whole DER entries: what a CRL lists, in the order in which the certificates were recorded."""


@dataclass(frozen=True)
class Line:
    """A succession of CRLs: of which issuer, of which of its certificates, and whether complete or delta CRLs."""

    issuer_id: str
    part: Part = ALL
    delta: bool = False

    @property
    def key(self) -> str:
        """As jobs and files name it."""
        word = DELTA if self.delta else self.part.word
        return f"{self.issuer_id}/{word}" if word else self.issuer_id


def parse_line(issuer_id: str, word: str) -> Line | None:
    """The issuer's line of that word, None when there is no such word."""
    if word == DELTA:
        return Line(issuer_id, ALL, delta=True)
    part = parse_part(word)
    return None if part is None else Line(issuer_id, part)


def line_of_key(key: str) -> Line | None:
    """The line that has this key."""
    issuer_id, _, word = key.partition("/")
    return parse_line(issuer_id, word)


@dataclass(frozen=True)
class PublishedCrl:
    """A CRL as it was published. `number` is its cRLNumber; `base`: of a delta CRL, the number on which it builds."""

    issuer_id: str
    number: int
    this_update: datetime
    next_update: datetime
    crl_der: bytes
    part: Part = ALL
    base: int | None = None

    @property
    def line(self) -> Line:
        """The succession in which it stands."""
        return Line(self.issuer_id, self.part, self.base is not None)


@dataclass(frozen=True)
class Standing:
    """The latest CRL of a line, without its bytes."""

    line: Line
    number: int
    this_update: datetime


@dataclass(frozen=True)
class Scheme:
    """A way in which an issuer's certificates were ever spread over CRLs, which lasts as long as they do.

    `name`: `apart`, `64` (shards), or `delta`. `points`: URLs with `{part}` that its certificates bear; of `delta`, the
    URLs of the delta CRL.
    """

    name: str
    points: tuple[str, ...]


class CrlStore(Protocol):
    """CRLs by line, in order of their numbers. Complete and delta CRLs of a part share one succession of numbers."""

    def latest(self, line: Line) -> Deferred[PublishedCrl | None]:
        """The CRL with the highest number in the line."""

    def latest_number(self, line: Line) -> Deferred[int]:
        """The highest number in the line, 0 when there is none: the cheap question, for who keeps `latest`."""

    def highest(self, issuer_id: str, part: Part) -> Deferred[int]:
        """The highest number of the part, of complete and delta CRLs, 0 when none was published."""

    def standing(self, issuer_id: str) -> Deferred[tuple[Standing, ...]]:
        """The latest of every line of the issuer."""

    def base(self, issuer_id: str, before: datetime) -> Deferred[Standing | None]:
        """On which complete CRL of all certificates a delta builds: the newest of before then, else the oldest kept."""

    def entries(self, issuer_id: str, part: Part, expired_after: datetime) -> Deferred[Entries]:
        """Revoked certificates of the part that had not expired at `expired_after`."""

    def changes(self, issuer_id: str, since: datetime, expired_after: datetime) -> Deferred[Entries]:
        """What was revoked, held, changed or released at `since` or later; released ones as removeFromCRL."""

    def last_expiry(self, issuer_id: str) -> Deferred[datetime | None]:
        """When the last certificate of the issuer expires, but for its own and its OCSP responders'. None: none was."""

    def unexpected(self, issuer_id: str, serials: frozenset[int], expired_after: datetime) -> Deferred[frozenset[int]]:
        """Those of the serials that are revoked or on hold and had not expired: a CRL must not have lost them."""

    def publish(self, crl: PublishedCrl, after: int) -> Deferred[bool]:
        """Keep the CRL if its number is higher than any of its part, and `after` is still what it was; False when not.

        `after`: of a delta CRL, the highest number of the part; of a complete one, that of the latest complete one.

        In the same transaction an audit entry says that the issuer's key signed it, published or not.
        """

    def schemes(self, issuer_id: str) -> Deferred[tuple[Scheme, ...]]:
        """Every scheme of the issuer as of now: also those that a node with other settings has adopted."""

    def adopt_schemes(self, issuer_id: str, schemes: tuple[Scheme, ...], wait: int) -> Deferred[tuple[Scheme, ...]]:
        """Every scheme of the issuer from now on: those it had, but for `delta`, and these, points joined.

        From now on a revocation owes, besides the CRL of all certificates `wait` seconds later, those of the schemes.
        """
