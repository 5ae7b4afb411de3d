"""Answers about every live certificate, prepared before anybody asks: by setting, beside everything else.

A round goes over all certificates in small pages. Between pages it rests as long as the page took, so that those who
ask keep at least half of the processor; what it prepares is what most clients ask by, a CertID with SHA-1.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import groupby

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from opencertd.clock import Clock
from opencertd.errors import Refusal
from opencertd.ocsp.server import OcspServer
from opencertd.ocsp.store import LiveCertificate, StatusStore

PAGE = 50
"""Certificates: some 3 milliseconds' work with P-256 in one turn of the reactor, 15 with P-384."""

_LEAST_REST = 0.001  # seconds


class AheadPreparer:
    """Goes over all certificates, again and again: a round begins every `every`.

    An answer that would end before the round after next is made anew.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        server: OcspServer,
        store: StatusStore,
        clock: Clock,
        reactor: IReactorTime,
        every: timedelta = timedelta(minutes=5),
    ) -> None:
        self._server = server
        self._store = store
        self._clock = clock
        self._reactor = reactor
        self._every = every
        self._loop = LoopingCall(lambda: Deferred.fromCoroutine(self.round()))
        self._loop.clock = reactor
        self._ended: Deferred[LoopingCall] | None = None
        self._stopping = False
        self._rest: Deferred[None] | None = None
        self._said_full = False

    def start(self) -> None:
        """Begin a round now, and then every `every`."""
        self._ended = self._loop.start(self._every.total_seconds(), now=True)

    async def stop(self) -> None:
        """Prepare no more; the page under way is waited for."""
        self._stopping = True
        if self._loop.running:
            self._loop.stop()
        if self._rest is not None:
            self._rest.cancel()
        if self._ended is not None:
            await self._ended

    async def round(self) -> None:
        """Go over all certificates once. Whatever goes wrong ends this round, not those to come."""
        try:
            await self._go_over_all()
        except Exception:
            if not self._stopping:
                self._log.failure("OCSP answers are not prepared ahead just now")

    async def _go_over_all(self) -> None:
        started, after, made = self._reactor.seconds(), 0, 0
        made_room = self._server.made_room
        while not self._stopping:
            began = self._reactor.seconds()
            page = await self._store.live(after, PAGE, self._clock.now())
            if not page:
                self._say_done(made, self._reactor.seconds() - started)
                return
            for issuer_id, group in groupby(sorted(page, key=_by_issuer), key=_by_issuer):
                made += await self._prepare(issuer_id, tuple(certificate.serial for certificate in group))
            if self._server.made_room != made_room:
                self._say_full()
                return
            after = page[-1].id
            self._rest = deferLater(self._reactor, max(_LEAST_REST, self._reactor.seconds() - began))
            await self._rest

    async def _prepare(self, issuer_id: str, serials: tuple[int, ...]) -> int:
        try:
            return await self._server.prepare(issuer_id, serials, self._clock.now() + 2 * self._every)
        except Refusal as refusal:  # no responder, or no store: the other issuers have theirs
            self._log.debug("not prepared ahead: {why}", why=refusal.detail)
            return 0

    def _say_done(self, made: int, seconds: float) -> None:
        if made:
            self._log.info("{made} OCSP answers prepared ahead in {seconds:.0f} s", made=made, seconds=seconds)

    def _say_full(self) -> None:
        if not self._said_full:
            self._log.warn("OCSP answers about all certificates do not fit into [status] prepared_mib")
        self._said_full = True


def _by_issuer(certificate: LiveCertificate) -> str:
    return certificate.issuer_id
