"""How every ACME conversation begins: open the JWS, redeem its nonce and read the account at once, then verify.

Nothing is done for a request before all of that has passed (RFC 8555 §6). The nouns (`accounts.py`, `orders.py` …)
share one `AcmeServer`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from opencertd.acme.encoding import b64url
from opencertd.acme.jwk import AccountKey, parse_jwk, stored_key
from opencertd.acme.jws import Jws, check_signature, parse_jws
from opencertd.acme.limits import Limits
from opencertd.acme.nonces import Nonces
from opencertd.acme.states import Account, AccountStatus, Authorization, Order
from opencertd.acme.store import About, AccountById, AccountByKey, AcmeStore, Begun, Download
from opencertd.acme.urls import Urls, check_id
from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind


@dataclass(frozen=True)
class ByAccount:
    """A verified request that an account signed, named by `kid`.

    `url`: what it was signed for. `begun`: what the store knew of the record that its path names, whoever's that is;
    the nouns take it by `own_order` and `own_authorization`.
    """

    account: Account
    key: AccountKey
    url: str
    payload: bytes
    begun: Begun

    def own_order(self) -> Order:
        """The account's order. Refusals: NOT_FOUND, UNAUTHORIZED when it is another's."""
        return check_own(self.account, self.begun.order, "order")

    def own_authorization(self) -> Authorization:
        """The account's authorization, also when the path names a challenge of it. Refusals as `own_order`."""
        return check_own(self.account, self.begun.authorization, "authorization")

    def own_download(self) -> Download:
        """The certificate of the account's order, if it is there yet. Refusals as `own_order`."""
        return check_own(self.account, self.begun.download, "order")


@dataclass(frozen=True)
class ByKey:
    """A verified request signed by a key that came with it. `account`: the one that has this key, if any.

    `address`: where the connection comes from, if that has one.
    """

    account: Account | None
    key: AccountKey
    payload: bytes
    address: str | None = None


class AcmeServer:
    """What all nouns share. `random`: n → n random bytes."""

    def __init__(
        self,
        *,
        store: AcmeStore,
        nonces: Nonces,
        urls: Urls,
        clock: Clock,
        random: Callable[[int], bytes],
        limits: Limits = Limits(),  # noqa: B008  (a frozen value)
    ) -> None:
        self.store = store
        self.nonces = nonces
        self.urls = urls
        self.clock = clock
        self.random = random
        self.limits = limits

    async def by_account(self, body: bytes, path: str, about: About | None = None) -> ByAccount:
        """A request that only an account may make. `path`: as it was asked for, with its query. `about`: see `begun`.

        Refusals: MALFORMED, UNAUTHORIZED (made for another URL), BAD_NONCE, BAD_SIGNATURE_ALGORITHM,
        ACCOUNT_DOES_NOT_EXIST, UNAUTHENTICATED (the account was deactivated).
        """
        jws = self._open(body, path)
        if jws.kid is None:
            raise Refusal(RefusalKind.MALFORMED, "this request must be signed with 'kid', not 'jwk'")
        return await self._of_account(jws, jws.kid, about)

    async def by_key(self, body: bytes, path: str, about: About | None = None) -> ByKey:
        """A request that brings its key; it is about nothing else. Refusals as `by_account`, and BAD_PUBLIC_KEY."""
        jws = self._open(body, path)
        if jws.jwk is None:
            raise Refusal(RefusalKind.MALFORMED, "this request must be signed with 'jwk', not 'kid'")
        return await self._of_key(jws)

    async def by_either(self, body: bytes, path: str, about: About | None = None) -> ByAccount | ByKey:
        """A request that may be made both ways. Refusals as `by_account` and `by_key`."""
        jws = self._open(body, path)
        return await (self._of_key(jws) if jws.kid is None else self._of_account(jws, jws.kid, about))

    def _open(self, body: bytes, path: str) -> Jws:
        jws = parse_jws(body)
        if jws.url != self.urls.of(path):  # RFC 8555 §6.4
            raise Refusal(
                RefusalKind.UNAUTHORIZED,
                f"the JWS was made for {jws.url[:200]!r}; this is {self.urls.of(path)[:200]!r}",
            )
        return jws

    async def _of_account(self, jws: Jws, kid: str, about: About | None) -> ByAccount:
        unused = self.nonces.redeem(jws.nonce)
        begun = await self.store.begin(unused, AccountById(self.urls.account_id(kid) or ""), about)
        account = begun.account
        if account is None:
            raise Refusal(RefusalKind.ACCOUNT_DOES_NOT_EXIST, "there is no account at the URL in 'kid'")
        key = stored_key(account.thumbprint, account.jwk)
        check_signature(jws, key)
        check_active(account)
        return ByAccount(account, key, jws.url, jws.payload, begun)

    async def _of_key(self, jws: Jws) -> ByKey:
        key = parse_jwk(jws.jwk)
        unused = self.nonces.redeem(jws.nonce)
        check_signature(jws, key)
        begun = await self.store.begin(unused, AccountByKey(key.thumbprint))
        return ByKey(begun.account, key, jws.payload)

    def new_id(self) -> str:
        """A name for a new record that nobody can guess: 128 random bits, after the second in which it is made.

        Records of one time so lie side by side in every index. Scattered, each would be written to pages of its own,
        which grows with what is stored, and be removed from as many.
        """
        return f"{int(self.clock.now().timestamp()):08x}{b64url(self.random(16))}"


def check_active(account: Account) -> None:
    """Raises UNAUTHENTICATED for an account that is not valid any more (RFC 8555 §7.3.6)."""
    if account.status is not AccountStatus.VALID:
        raise Refusal(RefusalKind.UNAUTHENTICATED, f"the account is {account.status.value}")


class _Owned(Protocol):
    @property
    def account_id(self) -> str: ...


Record = TypeVar("Record", bound=_Owned)


def check_own(account: Account, record: Record | None, what: str) -> Record:
    """The record, if there is one and it is the account's. Refusals: NOT_FOUND, UNAUTHORIZED."""
    if record is None:
        raise Refusal(RefusalKind.NOT_FOUND, f"there is no such {what}")
    if record.account_id != account.id:
        raise Refusal(RefusalKind.UNAUTHORIZED, f"this {what} belongs to another account")
    return record


def check_self(account: Account, account_id: str) -> None:
    """Refusals: NOT_FOUND for what cannot be an account, UNAUTHORIZED for another account than the one that asks."""
    if check_id(account_id) != account.id:
        raise Refusal(RefusalKind.UNAUTHORIZED, "this account belongs to somebody else")
