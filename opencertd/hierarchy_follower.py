"""A worker follows the hierarchy: it asks the store every second, and goes by what has changed, without a restart.

What is new is known at once and signs a little later. All workers must know an issuer before any signs by it: a client
that meets two of them would else find that the second has never heard of the certificate the first one gave it. Until
then, and as long as the key of the new issuer is not here, the issuer before it goes on signing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from opencertd.clock import Clock
from opencertd.errors import Refusal, StartError
from opencertd.issuance.issuers import Issuer, Issuers, SignerInToken, load_issuers
from opencertd.issuance.store import HierarchyStore
from opencertd.keys.signer import Elsewhere
from opencertd.model.certificates import Hierarchy

LOOK_SECONDS = 1.0
GRACE_SECONDS = 5.0
"""From when a worker knows a successor until it signs by it: several looks, and a key file that is slow to open."""

YOUNG = timedelta(minutes=10, seconds=GRACE_SECONDS)
"""A successor whose certificate began later is one that others may not know: CA certificates begin ten minutes back."""


@dataclass(frozen=True)
class Loaded:
    """Issuers, and in words why the keys of some could not be had, by issuer id."""

    issuers: Issuers
    missing: Mapping[str, str]


Load = Callable[[Hierarchy, "Issuers | None"], Loaded]
"""The issuers of a hierarchy; signers of issuers held before are taken from those. Blocks. Raises StartError."""


def loader(
    keys: Path, passphrase: bytes | None, elsewhere: Elsewhere[bytes], signer_in_token: SignerInToken | None
) -> Load:
    """What loads issuers in a worker: key files in `keys`, else the token."""

    def load(hierarchy: Hierarchy, held: Issuers | None) -> Loaded:
        missing: dict[str, str] = {}
        issuers = load_issuers(
            hierarchy.issuers,
            keys,
            passphrase,
            elsewhere,
            signer_in_token,
            cross_certificates=hierarchy.cross_certificates,
            held=held,
            missing=lambda record, why: missing.update({record.id: str(why)}),
        )
        return Loaded(issuers, missing)

    return load


class HierarchyFollower:
    """Follows `store`. `held` and `loaded`: what the worker begins with; `issuers`: what it should go by then.

    `adopt` puts issuers to use, or raises StartError and changes nothing.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        store: HierarchyStore,
        held: Hierarchy,
        load: Load,
        adopt: Callable[[Issuers], None],
        elsewhere: Elsewhere[Loaded],
        clock: Clock,
        reactor: IReactorTime,
    ) -> None:
        self._store = store
        self._held = held
        self._load = load
        self._adopt = adopt
        self._elsewhere = elsewhere
        self._reactor = reactor
        loaded = load(held, None)
        self._missing = loaded.missing
        self._say_missing({}, loaded.missing)
        born = clock.now() - YOUNG
        young = [i.id for i in _successors(loaded.issuers) if i.certificate.not_valid_before_utc > born]
        self._signs_from = dict.fromkeys(young, reactor.seconds() + GRACE_SECONDS)
        self.issuers = loaded.issuers.waiting_for(self._waiting(self._signs_from, loaded.missing))
        self._said = ""
        self._loop = LoopingCall(lambda: Deferred.fromCoroutine(self.look()))
        self._loop.clock = reactor
        self._ended: Deferred[LoopingCall] | None = None

    def start(self) -> None:
        """Look now and every second from now on."""
        self._ended = self._loop.start(LOOK_SECONDS)

    async def stop(self) -> None:
        """Look no more; a look under way is waited for."""
        if self._loop.running:
            self._loop.stop()
        if self._ended is not None:
            await self._ended

    async def look(self) -> None:
        """Look once. What goes wrong is logged once in words, changes nothing, and is tried again at the next look."""
        try:
            hierarchy = await self._store.hierarchy()
            if hierarchy != self._held or self._missing:
                loaded = await self._elsewhere(lambda: self._load(hierarchy, self.issuers))
                self._take(hierarchy, loaded)
            self._let_sign()
        except (Refusal, StartError) as error:
            if self._said != str(error):
                self._log.error("the issuers stay as they were: {why}", why=str(error))
            self._said = str(error)
        except Exception:  # whatever it is, the next look follows
            if self._said != _UNEXPECTED:
                self._log.failure("the issuers stay as they were")
            self._said = _UNEXPECTED
        else:
            self._said = ""

    def _take(self, hierarchy: Hierarchy, loaded: Loaded) -> None:
        self._say_missing(self._missing, loaded.missing)
        if hierarchy == self._held and loaded.missing == self._missing:
            return
        known = {record.id for record in self._held.issuers}
        arrived = [issuer.id for issuer in _successors(loaded.issuers) if issuer.id not in known]
        signs_from = self._signs_from | dict.fromkeys(arrived, self._reactor.seconds() + GRACE_SECONDS)
        issuers = loaded.issuers.waiting_for(self._waiting(signs_from, loaded.missing))
        self._adopt(issuers)
        self._held, self.issuers, self._missing, self._signs_from = hierarchy, issuers, loaded.missing, signs_from
        names = ", ".join(f"{issuer.name} ({issuer.record.state.value})" for issuer in issuers.all())
        self._log.info("the issuers are now {names}", names=names)

    def _let_sign(self) -> None:
        """Those that have waited long enough sign from now on."""
        waiting = self._waiting(self._signs_from, self._missing)
        if waiting == self.issuers.waiting:
            return
        issuers = self.issuers.waiting_for(waiting)
        self._adopt(issuers)
        ready = ", ".join(i.name for i in issuers.all() if i.id in self.issuers.waiting - waiting)
        self.issuers = issuers
        self._log.info("{names} may sign from now on", names=ready)

    def _waiting(self, signs_from: Mapping[str, float], missing: Mapping[str, str]) -> frozenset[str]:
        now = self._reactor.seconds()
        return frozenset(missing) | {issuer for issuer, since in signs_from.items() if now < since}

    def _say_missing(self, before: Mapping[str, str], now: Mapping[str, str]) -> None:
        for issuer, why in now.items():
            if before.get(issuer) != why:
                self._log.error("{why} Until its key is here, this node does not sign by it.", why=why)


_UNEXPECTED = "unexpected"


def _successors(issuers: Issuers) -> list[Issuer]:
    return [issuer for issuer in issuers.all() if issuer.record.predecessor_id is not None]
