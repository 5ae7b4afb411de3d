"""Those who make mistakes on purpose (`faults.py`), each in the place of one who makes none and knows nothing of it.

Whatever is answered says that it comes from such a server.
"""

# mypy: disable-error-code="no-untyped-call"
# (Twisted's Resource is untyped.)

from __future__ import annotations

from datetime import datetime
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource

from opencertd.acme.faults import HEADER, Faults, FaultTerms
from opencertd.acme.nonces import Nonces
from opencertd.acme.proofs import Proofs
from opencertd.acme.reuse import Reuse
from opencertd.acme.states import Order, Problem
from opencertd.acme.store import Beginning, UnusedNonce
from opencertd.acme.work import Work
from opencertd.asn1.pkcs10 import CertificationRequest
from opencertd.errors import Refusal, RefusalKind
from opencertd.validation.validator import ControlValidator
from opencertd.validation.verdict import ControlQuestion, FailedProof, ProvenUntil

_WHY = "on purpose: this server makes mistakes for tests (--test-faults)"


class FaultyNonces(Nonces):
    """Refuses some nonces that are good."""

    def __init__(self, faults: Faults, **options: Any) -> None:
        super().__init__(**options)
        self._faults = faults

    def redeem(self, nonce: str | None) -> UnusedNonce | None:
        """As a good server does, and BAD_NONCE for some of the rest."""
        redeemed = super().redeem(nonce)
        if self._faults.refuses_nonce(nonce or ""):
            raise Refusal(RefusalKind.BAD_NONCE, f"this nonce is refused {_WHY}; try again with that of this answer")
        return redeemed


class FaultyProofs(Proofs):
    """Lets some orders take proofs of before, and others not."""

    def __init__(self, faults: Faults, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._faults = faults

    def reuse(self, now: datetime) -> Reuse | None:
        """What an order made now may take."""
        return super().reuse(now) if self._faults.reuses() else None


class FaultyWork(Work):
    """Makes some orders invalid instead of issuing for them."""

    def __init__(self, faults: Faults, **options: Any) -> None:
        super().__init__(**options)
        self._faults = faults

    async def issue(self, order: Order, csr: CertificationRequest, beginning: Beginning | None = None) -> Order:
        """As a good server does, but for some."""
        if self._faults.spoils_order():
            if beginning is not None:
                await self._begin(beginning)
            return await self._fail(order, Problem("serverInternal", f"this order became invalid {_WHY}"))
        return await super().issue(order, csr, beginning)


class SlowValidator:
    """Takes its time over every validation, and comes to the same verdict."""

    def __init__(self, validator: ControlValidator, faults: Faults, reactor: IReactorTime) -> None:
        self._validator = validator
        self._faults = faults
        self._reactor = reactor

    async def validate(self, question: ControlQuestion) -> FailedProof | ProvenUntil | None:
        """As `ControlValidator` has it."""
        await deferLater(self._reactor, self._faults.seconds())
        return await self._validator.validate(question)

    async def check_caa(self, question: ControlQuestion) -> FailedProof | None:
        """At once."""
        return await self._validator.check_caa(question)


class Marked(Resource):
    """Says in a header of every answer that it comes from a server with these terms."""

    isLeaf = True  # noqa: N815  (Twisted asks for it by that name)

    def __init__(self, resource: IResource, terms: FaultTerms) -> None:
        super().__init__()
        self._resource = resource
        self._value = str(terms).encode("ascii")

    def render(self, request: IRequest) -> Any:
        """Answer, now or later."""
        request.responseHeaders.setRawHeaders(HEADER, [self._value])
        return self._resource.render(request)
