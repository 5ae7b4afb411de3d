"""One CRL made from what the store says is revoked, checked, and put in place by compare-and-swap on the number.

Any worker may publish at any time. Who loses the race looks whether the winner's CRL says what the store says now, and
is content with that, or tries again with the next number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from twisted.logger import Logger

from opencertd.asn1 import pem
from opencertd.asn1.der import DerError
from opencertd.asn1.signed import tbs_of
from opencertd.clock import Clock
from opencertd.crl.messages import Draft, UnsoundCrl, build_crl, build_tbs, lost_serials
from opencertd.crl.store import DELTA, CrlStore, Entries, Line, PublishedCrl, Scheme
from opencertd.crl.terms import CrlTerms, scope_of
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuer
from opencertd.keys.signer import Elsewhere
from opencertd.model.crl_parts import ALL

T = TypeVar("T")

_MUCH = 36_000
"""Octets of entries from which a CRL is built off the reactor: about two milliseconds of work."""
_TRIES = 5


@dataclass(frozen=True)
class Order:
    """Which CRL is wanted: a line of the issuer's, whose certificates are and were spread by these schemes."""

    issuer: Issuer
    line: Line
    schemes: tuple[Scheme, ...]


class Publisher:
    """`elsewhere` runs a function off the reactor (`deferToThreadPool`, bound)."""

    _log = Logger()

    def __init__(self, *, store: CrlStore, clock: Clock, elsewhere: Elsewhere[Any], terms: CrlTerms) -> None:
        self._store = store
        self._clock = clock
        self._elsewhere = elsewhere
        self._terms = terms
        self._current: dict[Line, PublishedCrl] = {}

    async def publish(self, order: Order) -> PublishedCrl:
        """Publish a CRL that lists what is revoked or on hold now; answers it, or another worker's that says the same.

        Refusal UNAVAILABLE when others were faster each time, or when there is no CRL yet on which a delta could build.
        """
        issuer, line = order.issuer, order.line
        for attempt in range(_TRIES):
            latest = await self.latest(line)
            highest = await self._store.highest(issuer.id, line.part)
            crl = await self._make(order, latest, next_number(highest + _room(order, attempt), self._clock.now()))
            before = 0 if latest is None else latest.number
            if await self._store.publish(crl, highest if line.delta else before):
                self._current[line] = crl
                return crl
            winner = await self.latest(line)  # unless that was a delta CRL, which has taken the number
            if winner is not None and winner != latest and await self._is_up_to_date(order, winner):
                return winner
        raise Refusal(RefusalKind.UNAVAILABLE, f"others keep publishing CRLs of {issuer.name}", retry_after=1)

    async def _make(self, order: Order, latest: PublishedCrl | None, number: int) -> PublishedCrl:
        now, line = issued_at(order, self._clock.now()), order.line
        draft, entries = await self._draft(order, latest, number, now)
        sizes = tuple(map(len, entries))
        if latest is not None and not line.delta:
            await self._check_none_is_lost(order, entries, latest, now)
        held = [entries]  # let go of as soon as it is copied: all of it may be a tenth of the process's memory
        del entries
        tbs = await self._run(sum(sizes), lambda: build_tbs(draft, held.pop()))
        signature = await order.issuer.signer.sign(tbs)
        signed = [tbs]
        del tbs
        crl_der = await self._run(sum(sizes), lambda: build_crl(draft, sizes, signed.pop(), signature))
        times = draft.this_update, draft.next_update
        return PublishedCrl(line.issuer_id, number, *times, crl_der, line.part, draft.scope.base)

    async def latest(self, line: Line) -> PublishedCrl | None:
        """The latest CRL of the line; from memory when the store has no newer one."""
        number = await self._store.latest_number(line)
        held = self._current.get(line)
        if held is not None and held.number == number:
            return held
        latest = await self._store.latest(line)
        if latest is not None:
            self._current[line] = latest
        return latest

    def known(self, line: Line) -> PublishedCrl | None:
        """The latest CRL of the line that this process has seen, if it still holds."""
        held = self._current.get(line)
        return None if held is None or held.next_update <= self._clock.now() else held

    async def _draft(
        self, order: Order, latest: PublishedCrl | None, number: int, now: datetime
    ) -> tuple[Draft, Entries]:
        issuer, line, terms = order.issuer, order.line, self._terms
        if not line.delta:
            entries = await self._store.entries(issuer.id, line.part, self._expired_after(now, latest))
            scope = scope_of(line, issuer.name, order.schemes, None)
            return Draft(issuer, number, now, now + terms.validity, scope), entries
        base = await self._store.base(issuer.id, now - terms.interval)
        if base is None:
            raise Refusal(RefusalKind.UNAVAILABLE, f"there is no CRL of {issuer.name} yet", retry_after=2)
        entries = await self._store.changes(issuer.id, base.this_update, base.this_update)
        scope = scope_of(line, issuer.name, order.schemes, base.number)
        return Draft(issuer, number, now, now + terms.interval, scope), entries

    async def _check_none_is_lost(self, order: Order, entries: Entries, latest: PublishedCrl, now: datetime) -> None:
        """Raises UnsoundCrl when a serial of the latest CRL is neither on this one nor expired nor released."""
        issuer = order.issuer
        try:
            lost = await self._run(sum(map(len, entries)), lambda: lost_serials(latest.crl_der, entries))
        except DerError:
            self._log.error("the stored CRL {n} of {issuer} cannot be read", n=latest.number, issuer=issuer.name)
            return
        if lost:
            lost = set(await self._store.unexpected(issuer.id, frozenset(lost), self._expired_after(now, latest)))
        if lost:
            raise UnsoundCrl(f"{len(lost)} revoked certificates are missing on the CRL of {issuer.name}")

    async def _is_up_to_date(self, order: Order, crl: PublishedCrl) -> bool:
        """Whether this CRL says of every certificate what the store says now.

        More entries than ours are no proof: one of them may be a hold that was ended after the winner had looked.
        """
        now = crl.this_update if crl.line.delta else self._clock.now()
        draft, entries = await self._draft(order, crl, crl.number, now)
        dated = replace(draft, this_update=crl.this_update, next_update=crl.next_update)
        expected = await self._run(sum(map(len, entries)), lambda: build_tbs(dated, entries))
        return tbs_of(crl.crl_der) == expected

    def _expired_after(self, now: datetime, latest: PublishedCrl | None) -> datetime:
        """Certificates that expired before this have been on a scheduled CRL after they expired (RFC 5280 §3.3).

        Two intervals back there was one, unless the daemon was away; then the last CRL is older than that.
        """
        two_intervals_ago = now - 2 * self._terms.interval
        return two_intervals_ago if latest is None else min(latest.this_update, two_intervals_ago)

    async def encode_pem(self, crl: PublishedCrl) -> bytes:
        """The CRL as PEM."""
        return await self._run(len(crl.crl_der), lambda: pem.encode_pem(pem.CRL, crl.crl_der))

    async def _run(self, size: int, work: Callable[[], T]) -> T:
        """The result of `work` over that many octets, done off the reactor where they are many."""
        if size <= _MUCH:
            return work()
        done: T = await self._elsewhere(work)
        return done


def _room(order: Order, attempt: int) -> int:
    """How many numbers a complete CRL leaves free for deltas that are published while it is made.

    It may take seconds, and deltas milliseconds: else many revocations at a time would keep it from ever being first.
    """
    return 0 if order.line.delta or not has_deltas(order) else 2 * 8**attempt


def has_deltas(order: Order) -> bool:
    """Whether its line shares numbers with delta CRLs."""
    return order.line.part == ALL and any(scheme.name == DELTA for scheme in order.schemes)


def issued_at(order: Order, now: datetime) -> datetime:
    """The thisUpdate of a CRL made now.

    A complete and a delta CRL with one thisUpdate would have to be one number and say the same (RFC 5280 §5.2.3). So
    where there are deltas, these have odd seconds, and the complete ones even ones: of the two, the one that is past.
    """
    second = now.replace(microsecond=0)
    late = has_deltas(order) and int(second.timestamp()) % 2 != order.line.delta
    return second - timedelta(seconds=1) if late else second


def next_number(after: int, now: datetime) -> int:
    """The cRLNumber (RFC 5280 §5.2.3) that follows `after`: never lower than the seconds since 1970.

    A database that was restored from a backup has forgotten numbers that clients have seen; the time has not.
    """
    return max(after + 1, int(now.timestamp()))
