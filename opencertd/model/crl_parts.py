"""Which of an issuer's certificates a CRL speaks of (RFC 5280 §5.2.5), by words that stand in URLs and in the store.

A shard is a function of the serial alone, and the number of shards is part of its word. So a certificate's place never
changes, however many shards later certificates are spread over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from opencertd.model.certificates import IssuerRole

MOST_SHARDS = 1024
BUCKETS = 1 << 16
_SHARD = re.compile(r"([1-9][0-9]{0,3})-(0|[1-9][0-9]{0,3})")


@dataclass(frozen=True)
class Part:
    """`word`: empty for all certificates, `cas` or `users` for CAs and all others, `64-17` for shard 17 of 64."""

    word: str = ""

    @property
    def shard(self) -> tuple[int, int] | None:
        """How many shards there are, and which of them, from 0; None when it is not a shard."""
        match = _SHARD.fullmatch(self.word)
        return None if match is None else (int(match[1]), int(match[2]))

    @property
    def buckets(self) -> tuple[int, int]:
        """The first bucket of a shard, and the first after it."""
        count, index = self.shard or (1, 0)
        return -(-index * BUCKETS // count), -(-(index + 1) * BUCKETS // count)


ALL = Part("")
CAS = Part("cas")
USERS = Part("users")


def parse_part(word: str) -> Part | None:
    """The part of that word, None when there is no such part."""
    part = Part(word)
    if part in (ALL, CAS, USERS):
        return part
    shard = part.shard
    return part if shard is not None and shard[1] < shard[0] <= MOST_SHARDS else None


def bucket_of(serial: int) -> int:
    """The sixteen bits of the serial that shards are made of; our serials are random there."""
    return serial % BUCKETS


def shard_of(serial: int, count: int) -> Part:
    """The shard of `count` in which a serial is."""
    return Part(f"{count}-{bucket_of(serial) * count // BUCKETS}")


def shards(count: int) -> tuple[Part, ...]:
    """All of them."""
    return tuple(Part(f"{count}-{index}") for index in range(count))


PLACE = "/{part}"
"""In a distribution point's URL: where the word of the part stands."""


def point(template: str, issuer: str, part: Part) -> str:
    """The URL of the issuer's CRL of a part. That of all certificates has no word, and no slash before it."""
    return template.replace(PLACE, f"/{part.word}" if part.word else "").replace("{issuer}", issuer)


@dataclass(frozen=True)
class Partition:
    """How new certificates are spread over CRLs: over how many `shards` (0: none), and whether CAs have their own."""

    shards: int = 0
    apart: bool = False

    def part_of(self, serial: int, *, ca: bool) -> Part:
        """The part that a certificate's distribution points name."""
        if self.apart and ca:
            return CAS
        if self.shards:
            return shard_of(serial, self.shards)
        return USERS if self.apart else ALL

    def under(self, role: IssuerRole) -> Partition:
        """As it is for an issuer of that role: the few certificates that a root signs are not spread over shards."""
        return Partition(0, self.apart) if role is IssuerRole.ROOT else self
