"""The one question other rooms ask: does whoever asks control this name? Evidence first, then the judge."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from opencertd.clock import Clock, SystemClock
from opencertd.validation.addresses import Address, Network
from opencertd.validation.attempt import Attempt
from opencertd.validation.caa_lookup import check_caa
from opencertd.validation.dialer import Dialer
from opencertd.validation.dns01 import gather_texts
from opencertd.validation.dns_persist import PersistTerms, judge_persistent
from opencertd.validation.fetch import Fetcher
from opencertd.validation.http01 import gather_answer
from opencertd.validation.resolver import Resolver
from opencertd.validation.tlsalpn01 import gather_handshake
from opencertd.validation.verdict import (
    BY_DNS,
    DNS_PERSIST_01,
    HTTP_01,
    ControlQuestion,
    FailedProof,
    FailureKind,
    ProvenUntil,
    Unproven,
    check_question,
    judge_handshake,
    judge_http,
    judge_texts,
)

TIME_LIMIT = 10.0
"""Seconds for one validation, look-ups and redirects included."""


class ControlValidator(Protocol):
    """Finds out about control of names. No method raises for what the network does; being cancelled goes through."""

    async def validate(self, question: ControlQuestion) -> FailedProof | ProvenUntil | None:
        """None when control is proven, `ProvenUntil` when that holds for some time only."""

    async def check_caa(self, question: ControlQuestion) -> FailedProof | None:
        """None when the name's CAA records permit a certificate: for a proof that is some hours old."""


class Validator:
    """Validates control of names by http-01, tls-alpn-01 and the challenges that DNS answers.

    `reactor` provides `IReactorTCP` and `IReactorTime`. The ports are where the challenges are answered (80 and 443
    by their RFCs); redirects of http-01 may lead to 80, 443 and `http01_port`. `allow` and `refuse`: address ranges
    opened and closed by settings (`addresses`). `sources`: own addresses to connect from. `caa_identities`: domains by
    which CAA may name this CA, in lower case; without any CAA is not looked at. `persist`: what dns-persist-01 needs.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        resolver: Resolver,
        reactor: Any,
        http01_port: int = 80,
        tlsalpn01_port: int = 443,
        allow: tuple[Network, ...] = (),
        refuse: tuple[Network, ...] = (),
        sources: tuple[Address, ...] = (),
        user_agent: str = "opencertd (ACME validation)",
        time_limit: float = TIME_LIMIT,
        caa_identities: frozenset[str] = frozenset(),
        persist: PersistTerms | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._resolver = resolver
        self._reactor = reactor
        self._http01_port = http01_port
        self._tlsalpn01_port = tlsalpn01_port
        self._time_limit = time_limit
        self._dialer = Dialer(reactor, resolver, allow, refuse, sources)
        ports = frozenset({80, 443, http01_port})
        self._fetcher = Fetcher(reactor, self._dialer, ports=ports, user_agent=user_agent)
        self._caa_identities = caa_identities
        self._persist = persist
        self._clock = clock or SystemClock()

    async def validate(self, question: ControlQuestion) -> FailedProof | ProvenUntil | None:
        """See `ControlValidator`."""
        attempt = Attempt(self._reactor, self._time_limit)
        return await self._watched(attempt, question, self._judged(attempt, question))

    async def check_caa(self, question: ControlQuestion) -> FailedProof | None:
        """See `ControlValidator`."""
        attempt = Attempt(self._reactor, self._time_limit)
        answer = await self._watched(attempt, question, self._permitted(attempt, question))
        return answer if isinstance(answer, FailedProof) else None

    async def _watched(
        self,
        attempt: Attempt,
        question: ControlQuestion,
        judging: Coroutine[Deferred[Any], Any, FailedProof | ProvenUntil | None],
    ) -> FailedProof | ProvenUntil | None:
        try:
            check_question(question)
            return await attempt.run(judging)
        except Unproven as failure:
            return failure.proof
        except CancelledError:
            raise
        except Exception:
            # A stranger's bytes found a case we did not think of: that proves nothing, and must not be asked for ever.
            self._log.failure("validation of {name} by {type} broke", name=question.name, type=question.type)
            return FailedProof(
                FailureKind.CONNECTION, f"the check of {question.name.value} failed inside the CA, whose log says more"
            )
        finally:
            judging.close()  # when it was never begun

    async def _judged(self, attempt: Attempt, question: ControlQuestion) -> FailedProof | ProvenUntil | None:
        proven = await self._controlled(attempt, question)
        if isinstance(proven, FailedProof):
            return proven
        return await self._permitted(attempt, question) or proven

    async def _permitted(self, attempt: Attempt, question: ControlQuestion) -> FailedProof | None:
        if not self._caa_identities:
            return None
        return await check_caa(attempt, self._resolver, question, self._caa_identities)

    async def _controlled(self, attempt: Attempt, question: ControlQuestion) -> FailedProof | ProvenUntil | None:
        if question.type == HTTP_01:
            answer = await gather_answer(attempt, self._fetcher, question, self._http01_port)
            return judge_http(question, answer)
        if question.type in BY_DNS:
            texts = await gather_texts(attempt, self._resolver, question)
            if question.type != DNS_PERSIST_01:
                return judge_texts(question, texts)
            if self._persist is None:
                raise Unproven(FailureKind.MALFORMED, "this CA does not take dns-persist-01 now")
            return judge_persistent(question, texts, self._persist, self._clock.now())
        handshake = await gather_handshake(attempt, self._dialer, question, self._tlsalpn01_port)
        return judge_handshake(question, handshake)
