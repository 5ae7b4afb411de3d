"""Orders: made with a fresh authorization for each name, and read (RFC 8555 §7.4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from opencertd.acme.messages import check_post_as_get, parse_new_order
from opencertd.acme.offer import Offer
from opencertd.acme.proofs import Proofs, ProofTerms
from opencertd.acme.renewal import Renewals
from opencertd.acme.server import AcmeServer, ByAccount
from opencertd.acme.states import (
    Order,
    OrderStatus,
)
from opencertd.acme.work import requester_of
from opencertd.issuance.authority import CertificateAuthority
from opencertd.model.request import IssuingProtocol


@dataclass(frozen=True)
class OrderTerms:
    """What every new order gets: `profile` if it names none, lifetimes for it and its authorizations, `challenges`.

    `reuse`, `subdomains`: see `ProofTerms`.
    """

    profile: str
    lifetime: timedelta = timedelta(days=7)
    authorization_lifetime: timedelta = timedelta(days=7)
    challenges: tuple[str, ...] = ("http-01", "dns-01")
    reuse: timedelta | None = None
    subdomains: bool = False

    def proofs(self) -> ProofTerms:
        """The part that is about authorizations."""
        return ProofTerms(self.challenges, self.authorization_lifetime, self.reuse, self.subdomains)


class Orders:
    """The making and reading of orders."""

    def __init__(
        self,
        server: AcmeServer,
        terms: OrderTerms,
        *,
        authority: CertificateAuthority,
        offer: Offer,
        renewals: Renewals,
        proofs: Proofs,
    ) -> None:
        self._server = server
        self._offer = offer
        self._renewals = renewals
        self._proofs = proofs
        self._terms = terms
        self._authority = authority

    async def create(self, asked: ByAccount, only: str | None = None) -> Order:
        """Keep a new order. `only`: the one profile of the directory by which it came, if it is for one.

        Refusals: MALFORMED, INVALID_PROFILE, UNAUTHORIZED, UNSUPPORTED_NAME, REJECTED_NAME, ALREADY_REPLACED.
        """
        wish = parse_new_order(asked.payload)
        names = wish.names
        self._proofs.check_provable(names)
        profile = self._offer.choose(wish.profile, only, names)
        requester = requester_of(asked.account.id, names)
        self._authority.check_order(profile, names, requester, IssuingProtocol.ACME)
        if wish.replaces is not None:
            await self._renewals.check_replaced(wish.replaces, asked.account.id, names)
        now = self._server.clock.now().replace(microsecond=0)
        order = Order(
            id=self._server.new_id(),
            account_id=asked.account.id,
            profile=profile,
            names=names,
            status=OrderStatus.PENDING,
            expires=now + self._terms.lifetime,
            created_at=now,
            authorizations=self._proofs.for_order(asked.account.id, wish),
            replaces=wish.replaces,
        )
        return await self._server.store.create_order(order, self._proofs.reuse(now))

    def read(self, asked: ByAccount) -> Order:
        """The account's order. Refusals: MALFORMED, NOT_FOUND, UNAUTHORIZED."""
        check_post_as_get(asked.payload)
        return asked.own_order()
