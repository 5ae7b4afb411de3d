"""How every ACME conversation begins: open the JWS, redeem its nonce and read the account at once, then verify.

Nothing is done for a request before all of that has passed (RFC 8555 §6). The nouns (`accounts.py`, `orders.py` …)
share one `AcmeServer`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from opencertd.acme.encoding import b64url
from opencertd.acme.jwk import AccountKey, parse_jwk
from opencertd.acme.jws import Jws, check_signature, parse_jws
from opencertd.acme.nonces import Nonces
from opencertd.acme.states import Account, AccountStatus, Order
from opencertd.acme.store import AccountById, AccountByKey, AcmeStore
from opencertd.acme.urls import Urls
from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind


@dataclass(frozen=True)
class ByAccount:
    """A verified request that an account signed, named by `kid`. `url`: what it was signed for."""

    account: Account
    key: AccountKey
    url: str
    payload: bytes


@dataclass(frozen=True)
class ByKey:
    """A verified request signed by a key that came with it. `account`: the one that has this key, if any."""

    account: Account | None
    key: AccountKey
    payload: bytes


class AcmeServer:
    """What all nouns share. `random`: n → n random bytes."""

    def __init__(
        self, *, store: AcmeStore, nonces: Nonces, urls: Urls, clock: Clock, random: Callable[[int], bytes]
    ) -> None:
        self.store = store
        self.nonces = nonces
        self.urls = urls
        self.clock = clock
        self.random = random

    async def by_account(self, body: bytes, path: str) -> ByAccount:
        """A request that only an account may make. `path`: as it was asked for, with its query.

        Refusals: MALFORMED, UNAUTHORIZED (made for another URL), BAD_NONCE, BAD_SIGNATURE_ALGORITHM,
        ACCOUNT_DOES_NOT_EXIST, UNAUTHENTICATED (the account was deactivated).
        """
        jws = self._open(body, path)
        if jws.kid is None:
            raise Refusal(RefusalKind.MALFORMED, "this request must be signed with 'kid', not 'jwk'")
        return await self._of_account(jws, jws.kid)

    async def by_key(self, body: bytes, path: str) -> ByKey:
        """A request that brings its key. Refusals as `by_account`, and BAD_PUBLIC_KEY."""
        jws = self._open(body, path)
        if jws.jwk is None:
            raise Refusal(RefusalKind.MALFORMED, "this request must be signed with 'jwk', not 'kid'")
        return await self._of_key(jws)

    async def by_either(self, body: bytes, path: str) -> ByAccount | ByKey:
        """A request that may be made both ways. Refusals as `by_account` and `by_key`."""
        jws = self._open(body, path)
        return await (self._of_key(jws) if jws.kid is None else self._of_account(jws, jws.kid))

    def _open(self, body: bytes, path: str) -> Jws:
        jws = parse_jws(body)
        if jws.url != self.urls.of(path):  # RFC 8555 §6.4
            raise Refusal(
                RefusalKind.UNAUTHORIZED,
                f"the JWS was made for {jws.url[:200]!r}; this is {self.urls.of(path)[:200]!r}",
            )
        return jws

    async def _of_account(self, jws: Jws, kid: str) -> ByAccount:
        forget_at = self.nonces.check(jws.nonce)
        account_id = self.urls.account_id(kid)
        asked = None if account_id is None else AccountById(account_id)
        account = await self.store.redeem_nonce(str(jws.nonce), forget_at, asked)
        if account is None:
            raise Refusal(RefusalKind.ACCOUNT_DOES_NOT_EXIST, "there is no account at the URL in 'kid'")
        key = parse_jwk(account.jwk)
        check_signature(jws, key)
        check_active(account)
        return ByAccount(account, key, jws.url, jws.payload)

    async def _of_key(self, jws: Jws) -> ByKey:
        key = parse_jwk(jws.jwk)
        forget_at = self.nonces.check(jws.nonce)
        check_signature(jws, key)
        account = await self.store.redeem_nonce(str(jws.nonce), forget_at, AccountByKey(key.thumbprint))
        return ByKey(account, key, jws.payload)

    def new_id(self) -> str:
        """A name for a new record that nobody can guess: 128 random bits."""
        return b64url(self.random(16))

    async def own_order(self, account: Account, order_id: str) -> Order:
        """The account's order. Refusals: NOT_FOUND, UNAUTHORIZED when it is another's."""
        order = await self.store.order(order_id)
        if order is None:
            raise Refusal(RefusalKind.NOT_FOUND, "there is no such order")
        check_own(account, order.account_id, "order")
        return order


def check_active(account: Account) -> None:
    """Raises UNAUTHENTICATED for an account that is not valid any more (RFC 8555 §7.3.6)."""
    if account.status is not AccountStatus.VALID:
        raise Refusal(RefusalKind.UNAUTHENTICATED, f"the account is {account.status.value}")


def check_own(account: Account, owner_id: str, what: str) -> None:
    """Raises UNAUTHORIZED unless `what` is the account's own."""
    if owner_id != account.id:
        raise Refusal(RefusalKind.UNAUTHORIZED, f"this {what} belongs to another account")
