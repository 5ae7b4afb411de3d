"""CRLs at their time: each line of CRLs owes its next one as a job, which whatever worker does."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from opencertd.clock import Clock
from opencertd.crl.publisher import Order, Publisher
from opencertd.crl.store import CrlStore, Line, PublishedCrl, Scheme, Standing, line_of_key
from opencertd.crl.terms import CrlTerms, calls_for, lines_of
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuer, Issuers
from opencertd.jobs.store import Job, JobStore
from opencertd.keys.signer import Elsewhere
from opencertd.model.crl_parts import ALL

JOB_KIND = "crl"
"""The kind of the job whose key is a line's."""

PUSH_KIND = "crl-push"
"""The kind of the job that puts a line's latest CRL in other places; see `crl.push`."""

_NOT_KNOWN_YET = timedelta(seconds=5)
_KEY_MAY_COME = timedelta(minutes=1)
_SOON = timedelta(minutes=10)
"""Jobs owe themselves anew; only what is due about now is owed again, should that have got lost."""
_MEANWHILE = timedelta(seconds=2)
"""By how much the times of CRLs that were made at once may differ, as they are rounded."""
_SPREAD = 0.25
"""By which part of the interval the shards' times lie apart: a thousand of them are not made in one second."""


class CrlServer:
    """CRLs of all `issuers`, which may be replaced at any time.

    `elsewhere` runs a function off the reactor (`deferToThreadPool`, bound). `pushed`: what is published is owed to
    other places too, by a job of kind `crl-push` with the same key.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        issuers: Issuers,
        store: CrlStore,
        jobs: JobStore,
        clock: Clock,
        elsewhere: Elsewhere[Any],
        terms: CrlTerms | None = None,
        pushed: bool = False,
    ) -> None:
        self.issuers = issuers
        self._terms = terms or CrlTerms()
        self._pushed = pushed
        self._publisher = Publisher(store=store, clock=clock, elsewhere=elsewhere, terms=self._terms)
        self._store = store
        self._jobs = jobs
        self._clock = clock
        self._schemes: dict[tuple[str, bool], tuple[Scheme, ...]] = {}
        self._pem: dict[Line, tuple[PublishedCrl, bytes]] = {}
        self._ensured: set[str] = set()
        self._said_keyless: set[Line] = set()
        self._last_expiry: dict[
            str, tuple[datetime, datetime | None]
        ] = {}  # of retired issuers: asked when, and answer

    async def ensure(self) -> None:
        """At start and now and then: every line of every issuer has a CRL that holds now, and owes the next one.

        One from the future, which a clock that was wrong has left, counts as none: clients refuse it.
        """
        for issuer in self.issuers.all():
            try:
                if await self._is_needed(issuer):
                    await self._ensure(issuer)
            except Refusal as refusal:  # one key that is not here must not stop the others' CRLs
                self._log.error("no CRL of {issuer}: {why}", issuer=issuer.name, why=refusal.detail)

    async def _ensure(self, issuer: Issuer) -> None:
        schemes = await self.schemes(issuer)
        if not issuer.has_key:
            return  # the CRLs that were left when the key was taken away serve until they end
        now = self._clock.now()
        standing = {each.line: each for each in await self._store.standing(issuer.id) if each.this_update <= now}
        for line in lines_of(issuer.id, schemes):
            if line == Line(issuer.id) and line not in standing:
                crl = await self.publish(issuer.id)
                standing[line] = Standing(line, crl.number, crl.this_update)
            if issuer.id not in self._ensured and line in standing:
                await self._owe_push(line)  # a place may be new, or have lost what it had
            due = self._due(line, standing[line].this_update) if line in standing else now
            if due <= now + _SOON or line.part == ALL:
                await self._jobs.enqueue(JOB_KIND, line.key, due)
        self._ensured.add(issuer.id)

    async def schemes(self, issuer: Issuer) -> tuple[Scheme, ...]:
        """How the issuer's certificates are and were spread over CRLs."""
        place = issuer.id, issuer.active  # a retired one has no delta CRLs any more
        held = self._schemes.get(place)
        if held is None:
            held = await self._store.adopt_schemes(issuer.id, self._terms.schemes(issuer), self._terms.wait)
            self._schemes[place] = held
        return held

    async def _schemes_for(self, issuer: Issuer, line: Line) -> tuple[Scheme, ...]:
        """Those that call for the line, which a node with newer settings may have adopted. Refusal NOT_FOUND."""
        schemes = await self.schemes(issuer)
        if not calls_for(schemes, line):
            schemes = self._schemes[issuer.id, issuer.active] = await self._store.schemes(issuer.id)
        if not calls_for(schemes, line):
            raise Refusal(RefusalKind.NOT_FOUND, f"{issuer.name} has no such CRL")
        return schemes

    def _due(self, line: Line, published: datetime) -> datetime:
        interval = self._terms.interval
        if line.delta:
            return published + interval / 4
        shard = line.part.shard
        return published + interval * (1 - (_SPREAD * shard[1] / shard[0] if shard else 0))

    async def job(self, job: Job) -> datetime | None:
        """The job of kind `crl` whose key is a line's: publishes, and answers when to publish again.

        Never again for a retired issuer once all that it signed has expired. One whose key was taken away may have it
        back: it is asked again every minute.
        """
        line = line_of_key(job.key)
        issuer = None if line is None else self.issuers.by_id(line.issuer_id)
        if issuer is None or line is None:  # another node has added it a moment ago; issuers never leave
            return self._clock.now() + _NOT_KNOWN_YET
        if not issuer.has_key:
            await self._say_keyless(issuer, line)
            return self._clock.now() + _KEY_MAY_COME
        self._said_keyless.discard(line)
        try:
            schemes = await self._schemes_for(issuer, line)
        except Refusal as refusal:
            if refusal.kind is RefusalKind.NOT_FOUND:
                return None  # there are no delta CRLs any more
            raise
        published = await self._publisher.publish(Order(issuer, line, schemes))
        await self._owe_push(line)  # before this job is settled: who dies here leaves it to be done again
        await self._owe_delta(published)
        return self._due(line, published.this_update) if await self._is_needed(issuer) else None

    async def _owe_delta(self, published: PublishedCrl) -> None:
        """One that came while the complete CRL was made may say more, and has a lower number: clients pass it over."""
        line = Line(published.issuer_id, published.part, delta=True)
        delta = None if published.line.delta else await self._publisher.latest(line)
        if delta is not None and delta.this_update >= published.this_update - _MEANWHILE:
            await self._jobs.enqueue(JOB_KIND, line.key, self._clock.now())

    async def _owe_push(self, line: Line) -> None:
        if self._pushed:
            await self._jobs.enqueue(PUSH_KIND, line.key, self._clock.now())

    async def _say_keyless(self, issuer: Issuer, line: Line) -> None:
        if line in self._said_keyless:
            return
        self._said_keyless.add(line)
        latest = await self._publisher.latest(line)
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
        now, interval = self._clock.now(), self._terms.interval
        asked_at, last = self._last_expiry.get(issuer.id, (None, None))
        if asked_at is None or now - asked_at >= interval:
            last = await self._store.last_expiry(issuer.id)
            self._last_expiry[issuer.id] = (now, last)
        return last is not None and now - 2 * interval <= last

    async def publish(self, issuer_id: str, line: Line | None = None) -> PublishedCrl:
        """Publish a CRL of the line (default: of all certificates) now; answers it, or one that says the same.

        Refusal NOT_FOUND for an unknown issuer or line, UNAVAILABLE when others were faster each time.
        """
        issuer = self.issuers.by_id(issuer_id)
        if issuer is None:
            raise Refusal(RefusalKind.NOT_FOUND, "there is no such issuer")
        line = line or Line(issuer_id)
        return await self._publisher.publish(Order(issuer, line, await self._schemes_for(issuer, line)))

    async def publish_complete(self, issuer: Issuer) -> tuple[PublishedCrl, ...]:
        """Publish every CRL of the issuer but the delta now, that of all certificates first."""
        schemes = await self.schemes(issuer)
        orders = [Order(issuer, line, schemes) for line in lines_of(issuer.id, schemes) if not line.delta]
        return tuple([await self._publisher.publish(order) for order in orders])

    async def current(self, issuer: Issuer, line: Line | None = None) -> PublishedCrl:
        """The CRL to hand out. While the store is away, the last one known, if it still holds.

        Refusal UNAVAILABLE when there is none, NOT_FOUND for a line that the issuer does not have.
        """
        line = line or Line(issuer.id)
        latest: PublishedCrl | None
        try:
            if line != Line(issuer.id):
                await self._schemes_for(issuer, line)
            latest = await self._publisher.latest(line)
            if latest is None and line != Line(issuer.id) and issuer.has_key:
                latest = await self.publish(issuer.id, line)  # a line just come to be, whose job waits its turn
        except CancelledError:
            raise
        except Exception as error:  # whatever the store's trouble, a valid CRL in memory is better than none
            if isinstance(error, Refusal) and error.kind is RefusalKind.NOT_FOUND:
                raise
            self._log.failure("the store does not answer for the CRL of {issuer}", issuer=issuer.name)
            latest = self._publisher.known(line)
        if latest is None:
            raise Refusal(RefusalKind.UNAVAILABLE, f"there is no CRL of {issuer.name} yet", retry_after=2)
        return latest

    async def pem(self, crl: PublishedCrl) -> bytes:
        """The CRL as PEM, encoded once."""
        held = self._pem.get(crl.line)
        if held is None or held[0] is not crl:
            text = await self._publisher.encode_pem(crl)
            held = self._pem[crl.line] = (crl, text)
        return held[1]
