"""Prepared answers by the exact bytes of a CertID, of a million certificates: the oldest go first, the revoked at once.

An answer consists of its CertID, of octets that are its own (status, dates, signature), and of what stands around them:
that is the same in all answers of one responder, second and size, and kept once, as a `Frame`. So an answer about a
certificate takes some 330 octets, of which the responder's certificate is none.

The answers lie on many shelves, each a dictionary of bytes: none is ever so large that letting it grow or clearing it
out would hold up the reactor, and Python's collector of garbage passes them over.

Of a certificate that was asked for with a nonce only its status is kept: such an answer is nobody else's.

An answer that is being made while its certificate is revoked must not be kept: whoever makes one holds a
`Preparation` from before asking the store, and `drop` spoils it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import NamedTuple

from opencertd.ocsp.messages import Freshness, OcspAnswer

Certificate = tuple[str, int]
"""Issuer id and serial."""

SHELVES = 256
OVERHEAD = 120
"""Octets that Python needs for an entry beside its own: two objects and a place in a dictionary."""

_NUMBER = 6
"""Octets of a frame's number, with which each kept answer begins."""


@dataclass
class Preparation:
    """An answer in the making. `spoiled`: the certificate was revoked since this was begun."""

    certificate: Certificate
    spoiled: bool = False


class Frame(NamedTuple):
    """What answers share: the octets before the CertID and at the end, and when they may be given.

    `before` is empty where no answer is kept but a status, which then is all that an entry has of its own.
    """

    issuer_id: str
    before: bytes
    end: bytes
    freshness: Freshness | None
    since: datetime
    until: datetime


class KnownStatus(NamedTuple):
    """What the store said of a certificate at `since`: CertStatus in DER. No change has been heard of since then."""

    issuer_id: str
    status_der: bytes
    since: datetime


class PreparedAnswers:
    """As many answers as fit into `most_octets`."""

    def __init__(self, most_octets: int, shelves: int = SHELVES) -> None:
        self._shelves = tuple(_Shelf(most_octets // shelves) for _ in range(shelves))
        self._frames = _Frames()
        self._making: dict[Certificate, list[Preparation]] = {}

    def __len__(self) -> int:
        return sum(len(shelf.kept) for shelf in self._shelves)

    def get(self, cert_id_der: bytes, now: datetime) -> OcspAnswer | None:
        """The answer kept for this CertID if it may still be given; a clock that was set back ends that, too."""
        kept = self._shelf(cert_id_der).kept.get(cert_id_der)
        if kept is None:
            return None
        frame = self._frames.by_number.get(kept[:_NUMBER])
        if frame is None or not frame.since <= now < frame.until or not frame.before:
            return None  # in time another takes its place
        return OcspAnswer(b"%s%s%s%s" % (frame.before, cert_id_der, kept[_NUMBER:], frame.end), frame.freshness)

    def entry(self, cert_id_der: bytes) -> bytes | None:
        """What is kept for this CertID: the same object as long as `get` gives the same answer."""
        return self._shelf(cert_id_der).kept.get(cert_id_der)

    def status(self, cert_id_der: bytes, now: datetime) -> KnownStatus | None:
        """What the store said of this CertID, as long as an answer that says it might be given."""
        kept = self._shelf(cert_id_der).kept.get(cert_id_der)
        frame = None if kept is None else self._frames.by_number.get(kept[:_NUMBER])
        if kept is None or frame is None or not frame.since <= now < frame.until:
            return None
        # The status is what each entry begins with: its tag, a length of one octet, its content.
        return KnownStatus(frame.issuer_id, kept[_NUMBER : _NUMBER + 2 + kept[_NUMBER + 1]], frame.since)

    def given_until(self, cert_id_der: bytes) -> datetime | None:
        """Until when the answer kept for this CertID may be given."""
        kept = self._shelf(cert_id_der).kept.get(cert_id_der)
        frame = None if kept is None else self._frames.by_number.get(kept[:_NUMBER])
        return frame.until if frame is not None and frame.before else None

    @property
    def made_room(self) -> int:
        """How many answers went since others needed their room."""
        return sum(shelf.made_room for shelf in self._shelves)

    @contextmanager
    def preparing(self, certificate: Certificate) -> Iterator[Preparation]:
        """Begin an answer about `certificate`: enter before the store is asked."""
        preparation = Preparation(certificate)
        self._making.setdefault(certificate, []).append(preparation)
        try:
            yield preparation
        finally:
            rest = [other for other in self._making[certificate] if other is not preparation]
            if rest:
                self._making[certificate] = rest
            else:
                del self._making[certificate]

    def keep(
        self,
        preparation: Preparation,
        cert_id_der: bytes,
        answer: OcspAnswer,
        *,
        end: bytes,
        since: datetime,
        until: datetime,
    ) -> None:
        """Keep the answer from `since` until `until`, unless the certificate was revoked meanwhile.

        `end`: with these octets the answers of its responder end.
        """
        if preparation.spoiled:
            return
        body = answer.body
        start = body.index(cert_id_der)
        stop = start + len(cert_id_der)
        if not body.endswith(end) or len(body) - len(end) < stop:
            raise ValueError("an answer about a certificate ends otherwise than its responder's answers do")
        frame = Frame(preparation.certificate[0], body[:start], end, answer.freshness, since, until)
        self._shelf(cert_id_der).put(cert_id_der, self._frames.number_of(frame) + body[stop : len(body) - len(end)])

    def keep_status(
        self, preparation: Preparation, cert_id_der: bytes, status_der: bytes, *, since: datetime, until: datetime
    ) -> None:
        """Keep what the store said, unless the certificate was revoked meanwhile or an answer says it."""
        if not preparation.spoiled and self.status(cert_id_der, since) is None:
            frame = Frame(preparation.certificate[0], b"", b"", None, since, until)
            self._shelf(cert_id_der).put(cert_id_der, self._frames.number_of(frame) + status_der)

    def drop(self, certificate: Certificate, cert_ids: Iterable[bytes]) -> None:
        """The certificate was revoked: forget every answer about it, and spoil those in the making.

        `cert_ids`: in every form that is kept.
        """
        for preparation in self._making.get(certificate, ()):
            preparation.spoiled = True
        for cert_id_der in cert_ids:
            self._shelf(cert_id_der).forget(cert_id_der)

    def _shelf(self, cert_id_der: bytes) -> _Shelf:
        return self._shelves[hash(cert_id_der) % len(self._shelves)]


class _Shelf:
    """Some of the answers: what each CertID's answer has for itself, behind the number of its frame."""

    def __init__(self, most_octets: int) -> None:
        self.kept: dict[bytes, bytes] = {}
        self.made_room = 0
        self._most_octets = most_octets
        self._octets = 0

    def put(self, cert_id_der: bytes, own: bytes) -> None:
        self.forget(cert_id_der)
        self.kept[cert_id_der] = own
        self._octets += _size(cert_id_der, own)
        while self._octets > self._most_octets:
            # Many at once: finding the first of a dictionary means passing over all that went before.
            for oldest in tuple(islice(self.kept, 1 + len(self.kept) // 8)):
                self.forget(oldest)
                self.made_room += 1

    def forget(self, cert_id_der: bytes) -> None:
        own = self.kept.pop(cert_id_der, None)
        if own is not None:
            self._octets -= _size(cert_id_der, own)


def _size(cert_id_der: bytes, own: bytes) -> int:
    return len(cert_id_der) + len(own) + OVERHEAD


class _Frames:
    """Frames by their numbers. One that has run out is forgotten, and with it every answer that refers to it."""

    def __init__(self) -> None:
        self.by_number: dict[bytes, Frame] = {}
        self._numbers: dict[Frame, bytes] = {}
        self._last = 0
        self._sweep_at = 1000

    def number_of(self, frame: Frame) -> bytes:
        number = self._numbers.get(frame)
        if number is None:
            if len(self._numbers) >= self._sweep_at:
                self._sweep(frame.since)
            self._last += 1
            number = self._numbers[frame] = self._last.to_bytes(_NUMBER, "big")
            self.by_number[number] = frame
        return number

    def _sweep(self, now: datetime) -> None:
        """Keep those that may be given; the next sweep comes when they have doubled."""
        self.by_number = {number: frame for number, frame in self.by_number.items() if now < frame.until}
        self._numbers = {frame: number for number, frame in self.by_number.items()}
        self._sweep_at = max(1000, 2 * len(self._numbers))
