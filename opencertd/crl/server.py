"""Publishing CRLs: built from the store's revocations, checked, and put in place by compare-and-swap on the number.

Any worker may publish at any time. Who loses the race looks whether the winner's CRL says what the store says now, and
is content with that, or tries again with the next number.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from opencertd.asn1 import pem
from opencertd.asn1.signed import split
from opencertd.clock import Clock
from opencertd.crl.messages import build_crl, build_tbs
from opencertd.crl.store import CrlStore, PublishedCrl, RevokedEntry
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuer, Issuers
from opencertd.jobs.store import Job, JobStore
from opencertd.keys.signer import Elsewhere

JOB_KIND = "crl"
_MANY = 1000
"""Entries from which a CRL is built off the reactor: about two milliseconds of work."""
_TRIES = 5
_NOT_KNOWN_YET = timedelta(seconds=5)
_KEY_MAY_COME = timedelta(minutes=1)


class CrlServer:
    """CRLs of all `issuers`, which may be replaced at any time.

    `validity`: from thisUpdate to nextUpdate. `interval`: a new one at least that often.

    `elsewhere` runs a function off the reactor (`deferToThreadPool`, bound).
    """

    _log = Logger()

    def __init__(
        self,
        *,
        issuers: Issuers,
        store: CrlStore,
        jobs: JobStore,
        clock: Clock,
        elsewhere: Elsewhere[bytes],
        validity: timedelta = timedelta(days=7),
        interval: timedelta = timedelta(days=1),
    ) -> None:
        if not timedelta(0) < interval < validity:
            raise ValueError("CRLs are published more often than they expire")
        self.issuers = issuers
        self._store = store
        self._jobs = jobs
        self._clock = clock
        self._elsewhere = elsewhere
        self._validity = validity
        self._interval = interval
        self._current: dict[str, PublishedCrl] = {}
        self._pem: dict[str, tuple[PublishedCrl, bytes]] = {}
        self._said_keyless: set[str] = set()
        self._last_expiry: dict[
            str, tuple[datetime, datetime | None]
        ] = {}  # of retired issuers: asked when, and answer

    async def ensure(self) -> None:
        """At start and now and then: every issuer has a CRL that holds now, and owes the next one.

        One from the future, which a clock that was wrong has left, counts as none: clients refuse it.
        """
        for issuer in self.issuers.all():
            try:
                if await self._is_needed(issuer):
                    await self._ensure(issuer)
            except Refusal as refusal:  # one key that is not here must not stop the others' CRLs
                self._log.error("no CRL of {issuer}: {why}", issuer=issuer.name, why=refusal.detail)

    async def _ensure(self, issuer: Issuer) -> None:
        latest = await self._latest(issuer)
        if not issuer.has_key:
            return  # the CRL that was left when the key was taken away serves until it ends
        if latest is None or latest.this_update > self._clock.now():
            latest = await self.publish(issuer.id)
        await self._jobs.enqueue(JOB_KIND, issuer.id, latest.this_update + self._interval)

    async def job(self, job: Job) -> datetime | None:
        """The job of kind `crl` whose key is an issuer's id: publishes, and answers when to publish again.

        Never again for a retired issuer once all that it signed has expired. One whose key was taken away may have it
        back: it is asked again every minute.
        """
        issuer = self.issuers.by_id(job.key)
        if issuer is None:  # another node has added it a moment ago; issuers never leave
            return self._clock.now() + _NOT_KNOWN_YET
        if not issuer.has_key:
            await self._say_keyless(issuer)
            return self._clock.now() + _KEY_MAY_COME
        self._said_keyless.discard(issuer.id)
        published = await self.publish(job.key)
        return published.this_update + self._interval if await self._is_needed(issuer) else None

    async def _say_keyless(self, issuer: Issuer) -> None:
        if issuer.id in self._said_keyless:
            return
        self._said_keyless.add(issuer.id)
        latest = await self._latest(issuer)
        until = (
            "there is none" if latest is None else f"the last one holds until {latest.next_update:%Y-%m-%d %H:%M} UTC"
        )
        self._log.warn(
            "no new CRL of {issuer}: its key is not here; {until}. `opencert ca import-key {issuer}` brings it back.",
            issuer=issuer.name,
            until=until,
        )

    async def _is_needed(self, issuer: Issuer) -> bool:
        """Whether anything that the issuer signed has not expired, or expired too lately to have left the CRL."""
        if issuer.active:
            return True
        now = self._clock.now()
        asked_at, last = self._last_expiry.get(issuer.id, (None, None))
        if asked_at is None or now - asked_at >= self._interval:
            last = await self._store.last_expiry(issuer.id)
            self._last_expiry[issuer.id] = (now, last)
        return last is not None and now - 2 * self._interval <= last

    async def publish(self, issuer_id: str) -> PublishedCrl:
        """Publish a CRL that lists what is revoked or on hold now; answers it, or another worker's that says the same.

        Refusal NOT_FOUND for an unknown issuer, UNAVAILABLE when others were faster each time.
        """
        issuer = self.issuers.by_id(issuer_id)
        if issuer is None:
            raise Refusal(RefusalKind.NOT_FOUND, "there is no such issuer")
        for _ in range(_TRIES):
            latest = await self._latest(issuer)
            now = self._clock.now().replace(microsecond=0)
            entries = await self._store.entries(issuer.id, self._expired_after(now, latest))
            after = 0 if latest is None else latest.number
            crl = await self._build(issuer, next_number(after, now), now, entries)
            if await self._store.publish(crl, after):
                self._current[issuer.id] = crl
                return crl
            winner = await self._latest(issuer)
            if winner is not None and await self._is_up_to_date(issuer, winner):
                return winner
        raise Refusal(RefusalKind.UNAVAILABLE, f"others keep publishing CRLs of {issuer.name}", retry_after=1)

    async def _is_up_to_date(self, issuer: Issuer, crl: PublishedCrl) -> bool:
        """Whether this CRL says of every certificate what the store says now.

        More entries than ours are no proof: one of them may be a hold that was ended after the winner had looked.
        """
        entries = await self._store.entries(issuer.id, self._expired_after(self._clock.now(), crl))
        expected = await self._run(
            len(entries), lambda: build_tbs(issuer, crl.number, crl.this_update, crl.next_update, entries)
        )
        return split(crl.crl_der)[0] == expected

    def _expired_after(self, now: datetime, latest: PublishedCrl | None) -> datetime:
        """Certificates that expired before this have been on a scheduled CRL after they expired (RFC 5280 §3.3).

        Two intervals back there was one, unless the daemon was away; then the last CRL is older than that.
        """
        two_intervals_ago = now - 2 * self._interval
        return two_intervals_ago if latest is None else min(latest.this_update, two_intervals_ago)

    async def _build(
        self, issuer: Issuer, number: int, this_update: datetime, entries: tuple[RevokedEntry, ...]
    ) -> PublishedCrl:
        next_update = this_update + self._validity
        tbs = await self._run(len(entries), lambda: build_tbs(issuer, number, this_update, next_update, entries))
        signature = await issuer.signer.sign(tbs)
        crl_der = await self._run(len(entries), lambda: build_crl(issuer, number, tbs, signature, entries))
        return PublishedCrl(issuer.id, number, this_update, next_update, crl_der)

    async def _run(self, entries: int, work: Callable[[], bytes]) -> bytes:
        return await self._elsewhere(work) if entries > _MANY else work()

    async def _latest(self, issuer: Issuer) -> PublishedCrl | None:
        """The latest CRL; from memory when the store has no newer one."""
        number = await self._store.latest_number(issuer.id)
        held = self._current.get(issuer.id)
        if held is not None and held.number == number:
            return held
        latest = await self._store.latest(issuer.id)
        if latest is not None:
            self._current[issuer.id] = latest
        return latest

    async def current(self, issuer: Issuer) -> PublishedCrl:
        """The CRL to hand out. While the store is away, the last one known, if it still holds.

        Refusal UNAVAILABLE when there is none.
        """
        latest: PublishedCrl | None
        try:
            latest = await self._latest(issuer)
        except CancelledError:
            raise
        except Exception:  # whatever the store's trouble, a valid CRL in memory is better than none
            self._log.failure("the store does not answer for the CRL of {issuer}", issuer=issuer.name)
            latest = self._current.get(issuer.id)
            if latest is not None and latest.next_update <= self._clock.now():
                latest = None
        if latest is None:
            raise Refusal(RefusalKind.UNAVAILABLE, f"there is no CRL of {issuer.name} yet", retry_after=2)
        return latest

    async def pem(self, crl: PublishedCrl) -> bytes:
        """The CRL as PEM, encoded once."""
        held = self._pem.get(crl.issuer_id)
        if held is None or held[0] is not crl:
            text = await self._run(len(crl.crl_der) // 40, lambda: pem.encode_pem(pem.CRL, crl.crl_der))
            held = self._pem[crl.issuer_id] = (crl, text)
        return held[1]


def next_number(after: int, now: datetime) -> int:
    """The cRLNumber (RFC 5280 §5.2.3) that follows `after`: never lower than the seconds since 1970.

    A database that was restored from a backup has forgotten numbers that clients have seen; the time has not.
    """
    return max(after + 1, int(now.timestamp()))
