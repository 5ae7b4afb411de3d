"""Orders whose certificates renew themselves: how one is read, by its account or by everybody, and how it is canceled.

The certificates are issued by `finalize.py`, the first, and `renewing.py`, all others (RFC 8739 §3).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import floor

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from opencertd.acme.auto_renewal import StarTerms, due_after
from opencertd.acme.messages import check_post_as_get, parse_cancellation
from opencertd.acme.server import AcmeServer, ByAccount
from opencertd.acme.star_store import Canceling, Published, StarStore
from opencertd.acme.states import AccountStatus, Order, OrderStatus
from opencertd.acme.urls import check_id
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.authority import CertificateAuthority

_TRIES = 20
_PAUSE = 0.1  # seconds; issuing takes less


@dataclass(frozen=True)
class StarCertificate:
    """The newest certificate of an order under each of its chains, leaf first, in DER.

    `fresh_for`: whole seconds until there is a newer one, or this one is over.
    """

    chains: tuple[tuple[bytes, ...], ...]
    not_before: datetime
    not_after: datetime
    fresh_for: int


class Stars:
    """`terms`: what is offered now; None: orders of before go on, and are read by their accounts."""

    def __init__(
        self,
        server: AcmeServer,
        store: StarStore,
        terms: StarTerms | None,
        *,
        authority: CertificateAuthority,
        reactor: IReactorTime,
    ) -> None:
        self._server = server
        self._store = store
        self._terms = terms
        self._authority = authority
        self._reactor = reactor

    async def read_or_cancel(self, asked: ByAccount) -> Order:
        """The account's order, canceled when that was asked (RFC 8739 §3.1.2).

        Refusals: MALFORMED, NOT_FOUND, UNAUTHORIZED, CANCELLATION_INVALID, UNAVAILABLE.
        """
        canceled = parse_cancellation(asked.payload)
        order = asked.own_order()
        if not canceled:
            return order
        if order.renewal is None:
            raise Refusal(RefusalKind.MALFORMED, "only orders with 'auto-renewal' can be canceled")
        for _ in range(_TRIES):
            outcome = await self._store.cancel(order.id, self._server.clock.now())
            if outcome is Canceling.DONE:
                return await self._server.store.order(order.id) or order
            if outcome is Canceling.NOT_VALID:
                raise Refusal(RefusalKind.CANCELLATION_INVALID, "only an order that is valid can be canceled")
            await deferLater(self._reactor, _PAUSE)  # else what is being issued would come after the end
        raise Refusal(RefusalKind.UNAVAILABLE, f"{outcome.value}; it was not canceled: try again", retry_after=5)

    async def certificate(self, asked: ByAccount) -> StarCertificate:
        """The newest certificate of the account's order.

        Refusals: MALFORMED, NOT_FOUND, UNAUTHORIZED, NOT_READY, RENEWAL_CANCELED, RENEWAL_ENDED, UNAVAILABLE.
        """
        check_post_as_get(asked.payload)
        order = asked.own_order()
        return self._newest(await self._store.published(order.id))

    async def certificate_for_all(self, order_id: str) -> StarCertificate:
        """The same for everybody, where client and settings agreed to that (RFC 8739 §3.4).

        Refusals: METHOD_NOT_ALLOWED, and as `certificate`.
        """
        found = await self._store.published(check_id(order_id))
        if found is not None and not (found.renewal.by_get and self._terms is not None and self._terms.by_get):
            raise Refusal(
                RefusalKind.METHOD_NOT_ALLOWED, "this certificate is read by POST-as-GET", allowed=("POST", "OPTIONS")
            )
        if found is not None and found.account_status is not AccountStatus.VALID:
            raise Refusal(RefusalKind.UNAUTHORIZED, "the account of this order is no longer valid")
        return self._newest(found)

    def _newest(self, found: Published | None) -> StarCertificate:
        if found is None:
            raise Refusal(RefusalKind.NOT_FOUND, "there is no such order, or its certificate does not renew itself")
        now = self._server.clock.now()
        _check_goes_on(found, now)
        if found.not_before is None or found.not_after is None or found.issuer_id is None:
            raise Refusal(RefusalKind.NOT_READY, "the order has no certificate yet")
        if found.certificate_der is None or found.not_after < now:
            raise Refusal(RefusalKind.UNAVAILABLE, "the next certificate could not be issued yet", retry_after=60)
        chains = self._authority.chains_of(found.issuer_id, found.certificate_der)
        return StarCertificate(chains, found.not_before, found.not_after, _fresh_for(found, found.not_after, now))


def _check_goes_on(found: Published, now: datetime) -> None:
    """Raises RENEWAL_CANCELED, RENEWAL_ENDED or NOT_READY for an order that gives no certificates any more."""
    if found.order_status is OrderStatus.CANCELED:
        raise Refusal(RefusalKind.RENEWAL_CANCELED, "the order was canceled")
    if found.order_status is OrderStatus.INVALID:
        raise Refusal(RefusalKind.NOT_READY, "the order is invalid: it says why")
    if now >= found.renewal.end:
        raise Refusal(RefusalKind.RENEWAL_ENDED, "the order is past its end-date")


def _fresh_for(found: Published, not_after: datetime, now: datetime) -> int:
    """Caches must not keep it beyond its time (RFC 8739 §4.3), and should not beyond the next one's."""
    ends = [not_after, found.renewal.end]
    if found.number is not None and found.renews_from is not None:
        due = due_after(found.renewal, found.renews_from, found.number)
        ends += [] if due is None else [due]
    return max(0, floor((min(ends) - now) / timedelta(seconds=1)))
