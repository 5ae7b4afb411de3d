"""Where everything of this edge is, below one external URL; never from a Host header (proxies change that)."""

from __future__ import annotations

import re

from opencertd.errors import Refusal, RefusalKind

DIRECTORY = "/directory"
NEW_NONCE = "/new-nonce"
NEW_ACCOUNT = "/new-account"
NEW_ORDER = "/new-order"
NEW_AUTHORIZATION = "/new-authz"
REVOKE_CERT = "/revoke-cert"
KEY_CHANGE = "/key-change"
ACCOUNT = "/account"
ORDER = "/order"
AUTHORIZATION = "/authorization"
CHALLENGE = "/challenge"
RENEWAL_INFO = "/renewal-info"
STAR = "/star-certificate"
"""After an order's: the newest of the certificates that renew themselves (RFC 8739)."""

OF_PROFILE = "/acme"
"""Before the name of a profile: its own directory, and its own newOrder. All else is where it is for everybody."""

FIRST_SEGMENTS = frozenset(
    path.removeprefix("/")
    for path in (
        DIRECTORY,
        NEW_NONCE,
        NEW_ACCOUNT,
        NEW_ORDER,
        NEW_AUTHORIZATION,
        REVOKE_CERT,
        KEY_CHANGE,
        ACCOUNT,
        ORDER,
        AUTHORIZATION,
        CHALLENGE,
        RENEWAL_INFO,
        OF_PROFILE,
    )
)
"""By what the site knows a path of this edge."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


def is_id(text: str) -> bool:
    """Whether there could be a record of that id."""
    return _ID.match(text) is not None


def check_id(text: str) -> str:
    """The id of a record as it stands in a URL. Raises NOT_FOUND for what could not be one."""
    if not is_id(text):
        raise Refusal(RefusalKind.NOT_FOUND, "there is nothing at this path")
    return text


class Urls:
    """`base`: the external URL, such as `https://ca.example:5001`, without a slash at its end."""

    def __init__(self, base: str) -> None:
        self._base = base

    def of(self, path: str) -> str:
        """The URL of a path below the base, which begins with a slash."""
        return self._base + path

    def new_order_of(self, profile: str) -> str:
        return self.of(f"{OF_PROFILE}/{profile}{NEW_ORDER}")

    def account(self, account_id: str) -> str:
        return self.of(f"{ACCOUNT}/{account_id}")

    def account_id(self, url: str) -> str | None:
        """The account's id in an account URL; None when it is not one of ours."""
        prefix = self.account("")
        found = url.removeprefix(prefix)
        return found if url.startswith(prefix) and _ID.match(found) else None

    def orders(self, account_id: str, after: str | None = None) -> str:
        cursor = "" if after is None else f"?cursor={after}"
        return f"{self.account(account_id)}/orders{cursor}"

    def order(self, order_id: str) -> str:
        return self.of(f"{ORDER}/{order_id}")

    def finalize(self, order_id: str) -> str:
        return f"{self.order(order_id)}/finalize"

    def certificate(self, order_id: str, chain: int = 0) -> str:
        query = f"?chain={chain}" if chain else ""
        return f"{self.order(order_id)}/certificate{query}"

    def star_certificate(self, order_id: str, chain: int = 0) -> str:
        query = f"?chain={chain}" if chain else ""
        return f"{self.order(order_id)}{STAR}{query}"

    def authorization(self, authorization_id: str) -> str:
        return self.of(f"{AUTHORIZATION}/{authorization_id}")

    def challenge(self, challenge_id: str) -> str:
        return self.of(f"{CHALLENGE}/{challenge_id}")
