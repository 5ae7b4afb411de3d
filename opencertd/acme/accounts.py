"""Accounts: made or found by their key, read, updated, deactivated (RFC 8555 §7.3); and the list of their orders."""

from __future__ import annotations

from dataclasses import dataclass

from opencertd.acme.external_account import ExternalAccounts, shown
from opencertd.acme.messages import check_post_as_get, parse_account_update, parse_contact, parse_new_account
from opencertd.acme.server import AcmeServer, ByAccount, ByKey, check_active, check_self
from opencertd.acme.states import Account, AccountStatus
from opencertd.acme.terms import has_agreed, not_agreed
from opencertd.acme.urls import NEW_ACCOUNT, check_id
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.authority import CertificateAuthority

PAGE = 100
"""Orders listed at once."""


@dataclass(frozen=True)
class OrderPage:
    """Ids of some orders, oldest first. `next_after`: the id after which the next page begins, if there is one."""

    order_ids: tuple[str, ...]
    next_after: str | None


class Accounts:
    """`terms_of_service`: the URL of what must be agreed to, if anything must."""

    def __init__(
        self,
        server: AcmeServer,
        *,
        authority: CertificateAuthority,
        terms_of_service: str | None,
        external: ExternalAccounts,
    ) -> None:
        self._external = external
        self._server = server
        self._authority = authority
        self._terms_of_service = terms_of_service

    async def create(self, asked: ByKey) -> tuple[Account, bool]:
        """The account of the key, and whether it was made now.

        What is asked of one that exists is ignored (§7.3.1), but for an agreement to terms that are new to it: many
        clients have no other way to send that.

        Refusals: MALFORMED, ACCOUNT_DOES_NOT_EXIST, INVALID_CONTACT, UNSUPPORTED_CONTACT, BAD_PUBLIC_KEY,
        UNAUTHENTICATED, EXTERNAL_ACCOUNT_REQUIRED, UNAUTHORIZED (the binding).
        """
        wish = parse_new_account(asked.payload)
        if asked.account is not None:
            check_active(asked.account)
            return await self._agree(asked.account, wish.terms_agreed and not wish.only_existing), False
        if wish.only_existing:
            raise Refusal(RefusalKind.ACCOUNT_DOES_NOT_EXIST, "no account has this key")
        if self._terms_of_service is not None and not wish.terms_agreed:
            raise not_agreed(self._terms_of_service)
        contact = parse_contact(wish.contact)
        await self._authority.check_key(asked.key.spki_der)
        now = self._server.clock.now().replace(microsecond=0)
        url = self._server.urls.of(NEW_ACCOUNT)
        binding = await self._external.bound(wish.binding, asked.key, url, now)
        account = Account(
            id=self._server.new_id(),
            status=AccountStatus.VALID,
            jwk=dict(asked.key.jwk),
            thumbprint=asked.key.thumbprint,
            contact=contact,
            terms_agreed=wish.terms_agreed,
            created_at=now,
            terms_url=self._terms_of_service if wish.terms_agreed else None,
            eab_key=None if binding is None else binding.key_id,
            binding=None if binding is None else shown(binding.document),
        )
        kept, created = await self._server.store.create_account(account, self._server.limits.new_account(asked.address))
        check_active(kept)
        return kept, created

    async def update(self, asked: ByAccount, account_id: str) -> Account:
        """The account as it is after what is asked. Refusals as `create`, and UNAUTHORIZED for another's account."""
        check_self(asked.account, account_id)
        wish = parse_account_update(asked.payload)
        agreed = wish.terms_agreed and not wish.deactivate
        if wish.contact is None and not wish.deactivate:
            return await self._agree(asked.account, agreed)
        status = AccountStatus.DEACTIVATED if wish.deactivate else None
        terms = self._terms_of_service if agreed else None
        return await self._server.store.update_account(
            asked.account.id, contact=wish.contact, status=status, terms_url=terms
        )

    async def _agree(self, account: Account, agreed: bool) -> Account:
        """The account with its agreement to the terms as they are now, where that is new."""
        if not agreed or self._terms_of_service is None or has_agreed(account, self._terms_of_service):
            return account
        return await self._server.store.update_account(account.id, terms_url=self._terms_of_service)

    async def orders(self, asked: ByAccount, account_id: str, after: str | None) -> OrderPage:
        """A page of the account's orders (RFC 8555 §7.1.2.1). Refusals: MALFORMED, NOT_FOUND, UNAUTHORIZED."""
        check_self(asked.account, account_id)
        check_post_as_get(asked.payload)
        cursor = None if after is None else check_id(after)
        found = await self._server.store.orders_of(asked.account.id, cursor, PAGE + 1)
        shown = found[:PAGE]
        return OrderPage(shown, shown[-1] if len(found) > PAGE else None)
