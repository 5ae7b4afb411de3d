"""Orders: made with a fresh authorization for each name (RFC 8555 §7.4). `stars.py` reads them, and cancels some."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from opencertd.acme.auto_renewal import StarTerms, asked_windows, granted
from opencertd.acme.external_account import ExternalAccounts
from opencertd.acme.messages import NewOrder, parse_new_order
from opencertd.acme.offer import Offer
from opencertd.acme.proofs import Proofs, ProofTerms
from opencertd.acme.renewal import Renewals
from opencertd.acme.server import AcmeServer, ByAccount
from opencertd.acme.states import (
    Account,
    Order,
    OrderStatus,
)
from opencertd.acme.terms import check_agreed
from opencertd.acme.times import format_time
from opencertd.acme.work import requester_of, window_of
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.authority import CertificateAuthority
from opencertd.issuance.windows import first_and_last
from opencertd.model.request import IssuingProtocol, Window
from opencertd.validation.attestation import Roots

PREDATED = timedelta(hours=1)
"""How long before its order a certificate may begin: clients set that back for clocks that are slow."""


@dataclass(frozen=True)
class OrderTerms:
    """What every new order gets: `profile` if it names none, lifetimes for it and its authorizations, `challenges`.

    `reuse`, `subdomains`: see `ProofTerms`. `devices`: whose attestations are taken, by format. `auto_renewal`: of
    certificates that renew themselves; None: there are none.
    """

    profile: str
    lifetime: timedelta = timedelta(days=7)
    authorization_lifetime: timedelta = timedelta(days=7)
    challenges: tuple[str, ...] = ("http-01", "dns-01")
    terms_of_service: str | None = None
    reuse: timedelta | None = None
    subdomains: bool = False
    devices: Roots = field(default_factory=dict)
    auto_renewal: StarTerms | None = None

    def proofs(self) -> ProofTerms:
        """The part that is about authorizations."""
        return ProofTerms(
            self.challenges, self.authorization_lifetime, self.reuse, self.subdomains, self.terms_of_service
        )


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
        external: ExternalAccounts,
    ) -> None:
        self._external = external
        self._server = server
        self._offer = offer
        self._renewals = renewals
        self._proofs = proofs
        self._terms = terms
        self._authority = authority

    async def create(self, asked: ByAccount, only: str | None = None) -> Order:
        """Keep a new order. `only`: the one profile of the directory by which it came, if it is for one.

        Refusals: MALFORMED, INVALID_PROFILE, UNAUTHORIZED, UNSUPPORTED_NAME, REJECTED_NAME, ALREADY_REPLACED,
        USER_ACTION_REQUIRED, RATE_LIMITED.
        """
        check_agreed(asked.account, self._terms.terms_of_service)
        wish = parse_new_order(asked.payload)
        names = wish.names
        self._proofs.check_provable(names)
        profile = await self._profile(asked.account, wish, only)
        requester = requester_of(asked.account.id, names, asked.account.eab_key)
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
            eab_key=asked.account.eab_key,
            replaces=wish.replaces,
            not_before=wish.not_before,
            not_after=wish.not_after,
            renewal=None if wish.renewal is None else granted(wish.renewal, self._terms.auto_renewal, profile, now),
        )
        self._check_validity(order)
        to_prove = tuple(each.name for each in order.authorizations)
        charges = self._server.limits.new_order(order.account_id, names, to_prove)
        return await self._server.store.create_order(order, charges, reuse=self._proofs.reuse(now))

    def _check_validity(self, order: Order) -> None:
        """Raises MALFORMED for a validity that the profile's first issuer could not give now (RFC 8555 §7.4)."""
        profile = self._authority.profiles[order.profile]
        for window in self._windows(order):
            issuer = self._authority.issuer_for(order.profile, None)
            first_and_last(profile, issuer.certificate, order.created_at, window)

    def _windows(self, order: Order) -> tuple[Window, ...]:
        """What the order asks for of its certificates. Raises MALFORMED for what is refused in any case."""
        if order.renewal is not None:
            if self._authority.profiles[order.profile].approval:
                why = f"somebody approves each certificate of the profile {order.profile!r}: none can renew itself"
                raise Refusal(RefusalKind.MALFORMED, why)
            return asked_windows(order.renewal, order.created_at)
        earliest = order.created_at - PREDATED
        if order.not_before is not None and order.not_before < earliest:
            raise Refusal(RefusalKind.MALFORMED, f"'notBefore' can be {format_time(earliest)} at the earliest")
        window = window_of(order)
        return () if window is None else (window,)

    async def _profile(self, account: Account, wish: NewOrder, only: str | None) -> str:
        """What the order is for: as the external account key of the account says, which must allow the names too."""
        wished = wish.profile or only
        key = await self._external.of(account.eab_key)
        if key is not None:
            key.check_names(wish.names)
            wished = key.profile_for(wished)
        return self._offer.choose(wished, only, wish.names)
