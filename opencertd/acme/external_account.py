"""External account binding: a new account shows who it belongs to, by a key of the operator's (RFC 8555 §7.3.4).

The operator hands out a key with an id; a client proves that it has the key by a MAC over its account's public key.
Ids are no secrets. An account that was bound keeps its key's id, and what the key says of profile and names counts for
its orders for as long as the account lives.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from opencertd.acme.encoding import parse_object
from opencertd.acme.jwk import AccountKey, parse_jwk
from opencertd.acme.jws import open_flattened
from opencertd.errors import Refusal, RefusalKind, RefusedName
from opencertd.model.names import AltName
from opencertd.model.requester import NameGrant

_DIGESTS = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
ALGORITHMS = tuple(_DIGESTS)
"""MACs that are taken (RFC 7518 §3.2). Keys of `KEY_LENGTH` bytes are long enough for all of them."""

KEY_LENGTH = 64
_WHAT = "the externalAccountBinding"


@dataclass(frozen=True)
class EabKey:
    """A key that binds accounts. `sealed`: the MAC key, encrypted. `profile`: what all orders of its accounts get.

    `names`: patterns as users have them (`NameGrant`), none for every name. `most_accounts`: None for any number;
    `accounts`: how many it has bound.
    """

    id: str
    sealed: bytes
    profile: str | None
    names: tuple[str, ...]
    created_at: datetime
    expires: datetime | None
    most_accounts: int | None
    accounts: int = 0
    revoked_at: datetime | None = None

    def why_unusable(self, now: datetime) -> str | None:
        """In words, why it binds no account now; None when it does."""
        if self.revoked_at is not None:
            return "was revoked"
        if self.expires is not None and now >= self.expires:
            return "has expired"
        if self.most_accounts is not None and self.accounts >= self.most_accounts:
            return f"has bound as many accounts as it may ({self.most_accounts})"
        return None

    def profile_for(self, wished: str | None) -> str | None:
        """The profile of an order by which that one was wished for. Raises INVALID_PROFILE for another than its own."""
        if self.profile is None or wished in (None, self.profile):
            return self.profile or wished
        why = f"accounts of this external account key have the profile {self.profile!r} only"
        raise Refusal(RefusalKind.INVALID_PROFILE, why)

    def check_names(self, names: tuple[AltName, ...]) -> None:
        """Raise REJECTED_NAME for names that accounts of this key may not have."""
        if not self.names:
            return
        grant = NameGrant(patterns=self.names)
        refused = [name for name in names if not grant.covers(name)]
        if refused:
            why = "accounts of this external account key may not have it"
            shown = tuple(RefusedName(RefusalKind.REJECTED_NAME, n.kind.value, n.value, why) for n in refused)
            raise Refusal(RefusalKind.REJECTED_NAME, f"{refused[0].value}: {why}", names=shown)


@dataclass(frozen=True)
class Binding:
    """A binding whose MAC nobody has checked yet. `document`: as it was sent."""

    key_id: str
    algorithm: str
    signing_input: bytes
    mac: bytes
    document: dict[str, Any]


def parse_binding(value: object, account_key: AccountKey, url: str) -> Binding:
    """Open the JWS of RFC 8555 §7.3.4. Raises MALFORMED, BAD_SIGNATURE_ALGORITHM, BAD_PUBLIC_KEY."""
    if not isinstance(value, dict):
        raise Refusal(RefusalKind.MALFORMED, f"{_WHAT} is not a JSON object")
    opened = open_flattened(value, _WHAT)
    header = opened.header
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in _DIGESTS:
        listed = ", ".join(ALGORITHMS)
        raise Refusal(
            RefusalKind.BAD_SIGNATURE_ALGORITHM, f"{_WHAT}'s algorithm is not one of {listed}", allowed=ALGORITHMS
        )
    if not isinstance(key_id, str):
        raise Refusal(RefusalKind.MALFORMED, f"{_WHAT} has no 'kid' string")
    if "nonce" in header or "jwk" in header:
        raise Refusal(RefusalKind.MALFORMED, f"{_WHAT} must not have a 'nonce' or a 'jwk' in its protected header")
    if header.get("url") != url:
        raise Refusal(RefusalKind.MALFORMED, f"{_WHAT} is for another URL than the request")
    if parse_jwk(parse_object(opened.payload, f"{_WHAT}'s payload")).thumbprint != account_key.thumbprint:
        raise Refusal(RefusalKind.MALFORMED, f"{_WHAT}'s payload is not the key of the account")
    return Binding(key_id, algorithm, opened.signing_input, opened.signature, dict(value))


def verifies(binding: Binding, mac_key: bytes) -> bool:
    """Whether `mac_key` made the MAC; takes as long for a wrong one."""
    made = hmac.digest(mac_key, binding.signing_input, _DIGESTS[binding.algorithm]().name)
    return hmac.compare_digest(made, binding.mac)


class ExternalAccounts:
    """`find` a key by its id; `open_key` decrypts its MAC key, and where nothing does, no key is known.

    `required`: no account is made without a binding.
    """

    def __init__(
        self,
        find: Callable[[str], Awaitable[EabKey | None]],
        open_key: Callable[[EabKey], Awaitable[bytes]] | None,
        *,
        required: bool,
    ) -> None:
        self._find = find
        self._open_key = open_key
        self._required = required

    async def bound(self, value: object, account_key: AccountKey, url: str, now: datetime) -> Binding | None:
        """The binding that a new account comes with, proven.

        Refusals as `parse_binding`, EXTERNAL_ACCOUNT_REQUIRED, UNAUTHORIZED, UNAVAILABLE.
        """
        if value is None:
            if self._required:
                why = "this CA makes accounts for those only who have a key of its operator (externalAccountBinding)"
                raise Refusal(RefusalKind.EXTERNAL_ACCOUNT_REQUIRED, why)
            return None
        binding = parse_binding(value, account_key, url)
        key = await self._find(binding.key_id)
        mac_key = bytes(KEY_LENGTH) if key is None or self._open_key is None else await self._open_key(key)
        if not verifies(binding, mac_key) or key is None or self._open_key is None:
            raise Refusal(RefusalKind.UNAUTHORIZED, f"{_WHAT} is not by a key that this CA knows")
        unusable = key.why_unusable(now)
        if unusable is not None:
            raise Refusal(RefusalKind.UNAUTHORIZED, f"the external account key {unusable}")
        return binding

    async def of(self, key_id: str | None) -> EabKey | None:
        """The key that an account is bound by, for what it says of orders. Raises UNAUTHORIZED when it is gone."""
        if key_id is None:
            return None
        key = await self._find(key_id)
        if key is None:
            raise Refusal(RefusalKind.UNAUTHORIZED, "the external account key of this account is not there any more")
        return key


def shown(document: Mapping[str, Any]) -> dict[str, Any]:
    """What of a binding the account object shows: the JWS as it was sent (§7.3.4), nothing that was sent beside it."""
    return {part: document[part] for part in ("protected", "payload", "signature")}
