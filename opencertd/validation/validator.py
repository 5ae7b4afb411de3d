"""The one question other rooms ask: does whoever asks control this name? Evidence first, then the judge."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from opencertd.validation.addresses import Network
from opencertd.validation.attempt import Attempt
from opencertd.validation.dialer import Dialer
from opencertd.validation.dns01 import gather_texts
from opencertd.validation.fetch import Fetcher
from opencertd.validation.http01 import gather_answer
from opencertd.validation.resolver import Resolver
from opencertd.validation.tlsalpn01 import gather_handshake
from opencertd.validation.verdict import (
    DNS_01,
    HTTP_01,
    ControlQuestion,
    FailedProof,
    FailureKind,
    Unproven,
    check_question,
    judge_handshake,
    judge_http,
    judge_texts,
)

TIME_LIMIT = 10.0
"""Seconds for one validation, look-ups and redirects included."""


class Validator:
    """Validates control of names by http-01, dns-01 and tls-alpn-01.

    `reactor` provides `IReactorTCP` and `IReactorTime`. The ports are where the challenges are answered (80 and 443
    by their RFCs); redirects of http-01 may lead to 80, 443 and `http01_port`. `allow`: address ranges opened beside
    those open by default (`addresses`).
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
        user_agent: str = "opencertd (ACME validation)",
        time_limit: float = TIME_LIMIT,
    ) -> None:
        self._resolver = resolver
        self._reactor = reactor
        self._http01_port = http01_port
        self._tlsalpn01_port = tlsalpn01_port
        self._time_limit = time_limit
        self._dialer = Dialer(reactor, resolver, allow)
        ports = frozenset({80, 443, http01_port})
        self._fetcher = Fetcher(reactor, self._dialer, ports=ports, user_agent=user_agent)

    async def validate(self, question: ControlQuestion) -> FailedProof | None:
        """None when control is proven. Never raises for what the network does; being cancelled goes through."""
        attempt = Attempt(self._reactor, self._time_limit)
        try:
            check_question(question)
            return await attempt.run(self._judged(attempt, question))
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

    async def _judged(self, attempt: Attempt, question: ControlQuestion) -> FailedProof | None:
        if question.type == HTTP_01:
            answer = await gather_answer(attempt, self._fetcher, question, self._http01_port)
            return judge_http(question, answer)
        if question.type == DNS_01:
            return judge_texts(question, await gather_texts(attempt, self._resolver, question))
        handshake = await gather_handshake(attempt, self._dialer, question, self._tlsalpn01_port)
        return judge_handshake(question, handshake)
