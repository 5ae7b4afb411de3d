"""Prepared answers by the exact bytes of a CertID: the least recently used go first, the revoked at once.

An answer that is being made while its certificate is revoked must not be kept: whoever makes one holds a
`Preparation` from before asking the store, and `drop` spoils it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from opencertd.ocsp.messages import OcspAnswer

Certificate = tuple[str, int]
"""Issuer id and serial."""


@dataclass
class Preparation:
    """An answer in the making. `spoiled`: the certificate was revoked since this was begun."""

    certificate: Certificate
    spoiled: bool = False


@dataclass(frozen=True)
class _Kept:
    certificate: Certificate
    answer: OcspAnswer
    since: datetime
    until: datetime


class PreparedAnswers:
    """At most `most` answers of at most `most_octets` together: half a kilobyte each, but with ML-DSA nine."""

    def __init__(self, most: int, most_octets: int) -> None:
        self._most = most
        self._most_octets = most_octets
        self._octets = 0
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._cert_ids: dict[Certificate, set[bytes]] = {}
        self._making: dict[Certificate, list[Preparation]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, cert_id_der: bytes, now: datetime) -> OcspAnswer | None:
        """The answer kept for this CertID if it may still be given; a clock that was set back ends that, too."""
        kept = self._kept.get(cert_id_der)
        if kept is None:
            return None
        if not kept.since <= now < kept.until:
            self._forget(cert_id_der)
            return None
        self._kept.move_to_end(cert_id_der)
        return kept.answer

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
        self, preparation: Preparation, cert_id_der: bytes, answer: OcspAnswer, since: datetime, until: datetime
    ) -> None:
        """Keep the answer from `since` until `until`, unless the certificate was revoked meanwhile."""
        if preparation.spoiled:
            return
        self._forget(cert_id_der)
        self._kept[cert_id_der] = _Kept(preparation.certificate, answer, since, until)
        self._octets += len(answer.body)
        self._cert_ids.setdefault(preparation.certificate, set()).add(cert_id_der)
        while len(self._kept) > self._most or self._octets > self._most_octets:
            self._forget(next(iter(self._kept)))

    def drop(self, certificate: Certificate) -> None:
        """The certificate was revoked: forget every answer about it, and spoil those in the making."""
        for preparation in self._making.get(certificate, ()):
            preparation.spoiled = True
        for cert_id_der in tuple(self._cert_ids.get(certificate, ())):
            self._forget(cert_id_der)

    def _forget(self, cert_id_der: bytes) -> None:
        kept = self._kept.pop(cert_id_der, None)
        if kept is None:
            return
        self._octets -= len(kept.answer.body)
        cert_ids = self._cert_ids[kept.certificate]
        cert_ids.discard(cert_id_der)
        if not cert_ids:
            del self._cert_ids[kept.certificate]
