"""Authorizations to be: pending ones with their challenges, for orders and ahead of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from opencertd.acme.encoding import b64url
from opencertd.acme.external_account import ExternalAccounts
from opencertd.acme.messages import NewOrder, parse_new_authorization
from opencertd.acme.offer import Offer
from opencertd.acme.reuse import Reuse
from opencertd.acme.server import AcmeServer, ByAccount
from opencertd.acme.states import (
    Authorization,
    AuthorizationStatus,
    Challenge,
    ChallengeStatus,
    challenge_types,
)
from opencertd.acme.terms import check_agreed
from opencertd.acme.work import requester_of
from opencertd.errors import Refusal, RefusalKind, RefusedName
from opencertd.issuance.authority import CertificateAuthority
from opencertd.model.names import DEVICE_KINDS, AltName, AltNameKind
from opencertd.model.request import IssuingProtocol

_PROVE_BELOW = frozenset({"dns-01", "dns-account-01"})
"""A host answers for itself alone (as with wildcards, RFC 8555 §8.4); dns-persist-01 has rules of its own for that."""


@dataclass(frozen=True)
class ProofTerms:
    """`challenges`: those offered. `lifetime`: of an authorization. `reuse`: how long a proof serves further orders of
    its account, None: not at all. `subdomains`: whether control of a domain may stand for names below it (RFC 9444).
    `terms_of_service`: what accounts must have agreed to.
    """

    challenges: tuple[str, ...] = ("http-01", "dns-01")
    lifetime: timedelta = timedelta(days=7)
    reuse: timedelta | None = None
    subdomains: bool = False
    terms_of_service: str | None = None


class Proofs:
    """Makes authorizations, for orders and ahead of them."""

    def __init__(
        self,
        server: AcmeServer,
        terms: ProofTerms,
        *,
        authority: CertificateAuthority,
        offer: Offer,
        external: ExternalAccounts,
    ) -> None:
        self._external = external
        self._server = server
        self._terms = terms
        self._authority = authority
        self._offer = offer

    async def preauthorize(self, asked: ByAccount) -> Authorization:
        """Keep a pending authorization that belongs to no order (RFC 8555 §7.4.1, RFC 9444 §4.2).

        Refusals: MALFORMED, UNSUPPORTED_NAME, REJECTED_NAME, UNAUTHORIZED, USER_ACTION_REQUIRED, RATE_LIMITED.
        """
        check_agreed(asked.account, self._terms.terms_of_service)
        wish = parse_new_authorization(asked.payload)
        names = (wish.name,)
        if wish.name.kind in DEVICE_KINDS:
            why = "devices are not authorized ahead: they attest for each order, with the key it is for"
            refused = RefusedName(RefusalKind.REJECTED_NAME, wish.name.kind.value, wish.name.value, why)
            raise Refusal(RefusalKind.REJECTED_NAME, why, names=(refused,))
        below = wish.subdomains and self._terms.subdomains and self._can_prove_below(wish.name)
        if not below:  # else rules are for the names below, and are asked when these are ordered
            key = await self._external.of(asked.account.eab_key)
            if key is not None:
                key.check_names(names)
            requester = requester_of(asked.account.id, names, asked.account.eab_key)
            self._authority.check_order(self._offer.check(self._offer.chosen), names, requester, IssuingProtocol.ACME)
        self.check_provable(names)
        made = self._pending(asked.account.id, wish.name, subdomains=below)
        # As an order of that one name: else proofs made ahead would be a way around the limits of orders.
        await self._server.store.create_authorization(made, self._server.limits.new_order(asked.account.id, names))
        return made

    def check_provable(self, names: tuple[AltName, ...]) -> None:
        """Raises REJECTED_NAME for names that none of the challenges offered could ever prove."""
        offered = self._terms.challenges
        hopeless = [name for name in names if not challenge_types(offered, name)]
        if hopeless:
            why = f"none of the challenges offered here ({', '.join(offered)}) can prove it"
            refused = (RefusedName(RefusalKind.REJECTED_NAME, name.kind.value, name.value, why) for name in hopeless)
            raise Refusal(RefusalKind.REJECTED_NAME, f"{hopeless[0].value}: {why}", names=tuple(refused))

    def for_order(self, account_id: str, wish: NewOrder) -> tuple[Authorization, ...]:
        """A pending authorization for each name, or for the ancestor of several (RFC 9444 §4.3)."""
        made: list[Authorization] = []
        for name in wish.names:
            ancestor = wish.ancestors.get(name) if self._terms.subdomains else None
            if ancestor is not None and self._can_prove_below(ancestor):
                if not any(each.subdomains and each.name == ancestor for each in made):
                    made.append(self._pending(account_id, ancestor, subdomains=True))
            else:
                made.append(self._pending(account_id, name))
        return tuple(made)

    def reuse(self, now: datetime) -> Reuse | None:
        """What an order made now may take."""
        terms = self._terms
        return None if terms.reuse is None else Reuse(now - terms.reuse, now, terms.reuse, terms.challenges)

    def _can_prove_below(self, name: AltName) -> bool:
        return name.kind is AltNameKind.DNS and any(kind in _PROVE_BELOW for kind in self._terms.challenges)

    def _pending(self, account_id: str, name: AltName, *, subdomains: bool = False) -> Authorization:
        authorization_id = self._server.new_id()
        now = self._server.clock.now().replace(microsecond=0)
        kinds = challenge_types(self._terms.challenges, name)
        if subdomains:
            kinds = tuple(kind for kind in kinds if kind in _PROVE_BELOW)
        challenges = tuple(
            Challenge(
                id=self._server.new_id(),
                authorization_id=authorization_id,
                type=kind,
                token=b64url(self._server.random(32)),
                status=ChallengeStatus.PENDING,
            )
            for kind in kinds
        )
        return Authorization(
            id=authorization_id,
            account_id=account_id,
            name=AltName(name.kind, name.value.removeprefix("*.")),
            wildcard=name.value.startswith("*."),
            status=AuthorizationStatus.PENDING,
            expires=now + self._terms.lifetime,
            challenges=challenges,
            subdomains=subdomains,
        )
