"""Who brings an enrolment password may enrol for what it was made for, and nothing else.

It comes as user name and password of Basic (RFC 7617). What it is used up by is a certificate that was issued: the
store counts those, in the transaction that begins to issue one.
"""

from __future__ import annotations

import hmac
import re
from datetime import datetime, timedelta
from typing import Protocol

from twisted.internet.defer import Deferred

from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.model.enrolment_password import PREFIX, EnrolmentPassword, digest_of
from opencertd.model.requester import NameGrant, Proof, Requester

_LOOK_AGAIN = timedelta(seconds=1)
_SPELLING = re.compile(f"{PREFIX}[a-z0-9]{{1,60}}")


class EnrolmentPasswordStore(Protocol):
    """What is kept of them."""

    def find(self, name: str) -> Deferred[EnrolmentPassword | None]:
        """The one of that name, be it of use or not."""

    def any_good(self) -> Deferred[bool]:
        """Whether there is one that was not revoked and has not expired."""


class EnrolmentPasswords:
    """Judges them. `key`: the secret that all workers share."""

    def __init__(self, store: EnrolmentPasswordStore, *, key: bytes, clock: Clock) -> None:
        self._store = store
        self._key = key
        self._clock = clock
        self._offered = False
        self._looked_at: datetime | None = None

    @staticmethod
    def is_name(name: str) -> bool:
        """Whether a user name is one of theirs."""
        return name.startswith(PREFIX)

    async def offered(self) -> bool:
        """Whether anybody could bring one; asked of the store at most once a second."""
        now = self._clock.now()
        if self._looked_at is None or abs(now - self._looked_at) >= _LOOK_AGAIN:
            self._looked_at = now
            self._offered = await self._store.any_good()
        return self._offered

    async def check(self, name: str, password: str) -> Requester:
        """Who brings this password. Refusal UNAUTHENTICATED.

        A name that does not exist takes as long as a wrong password; who has the right one is told why it is no use.
        """
        found = await self._store.find(name) if _SPELLING.fullmatch(name) else None  # no store takes a NUL
        kept = "0" * 64 if found is None else found.digest
        right = hmac.compare_digest(digest_of(self._key, name, password), kept)
        if found is None or not right:
            raise Refusal(RefusalKind.UNAUTHENTICATED, "user name or password is wrong")
        why = found.why_unusable(self._clock.now())
        if why is not None:
            raise Refusal(RefusalKind.UNAUTHENTICATED, f"the enrolment password {why}")
        return Requester(
            proof=Proof.ENROLMENT_PASSWORD,
            id=found.id,
            label=found.id,
            grant=NameGrant(patterns=found.names),
            profiles=None if found.profiles is None else frozenset(found.profiles),
        )
