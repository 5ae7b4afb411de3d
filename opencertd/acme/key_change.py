"""An account gets another key; old and new key both sign that (RFC 8555 §7.3.5)."""

from __future__ import annotations

from opencertd.acme.jwk import parse_jwk
from opencertd.acme.jws import check_signature, parse_jws
from opencertd.acme.messages import parse_key_change
from opencertd.acme.server import AcmeServer, ByAccount
from opencertd.acme.states import Account
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.authority import CertificateAuthority


class KeyChanges:
    """Checks the inner JWS, by the new key, that the outer one, by the old key, carries."""

    def __init__(self, server: AcmeServer, *, authority: CertificateAuthority) -> None:
        self._server = server
        self._authority = authority

    async def change(self, asked: ByAccount) -> Account:
        """The account with its new key.

        Refusals: MALFORMED, BAD_PUBLIC_KEY, BAD_SIGNATURE_ALGORITHM; CONFLICT with the id of the account that has the
        new key.
        """
        inner = parse_jws(asked.payload)
        if inner.jwk is None:
            raise Refusal(RefusalKind.MALFORMED, "the inner JWS must have the new key as its 'jwk'")
        if inner.nonce is not None:
            raise Refusal(RefusalKind.MALFORMED, "the inner JWS must not have a nonce")
        if inner.url != asked.url:
            raise Refusal(RefusalKind.MALFORMED, "the inner JWS is for another URL than the outer one")
        new_key = parse_jwk(inner.jwk)
        check_signature(inner, new_key)
        wish = parse_key_change(inner.payload)
        if wish.account_url != self._server.urls.account(asked.account.id):
            raise Refusal(RefusalKind.MALFORMED, "the inner JWS names another account")
        if wish.old_key.thumbprint != asked.account.thumbprint:
            raise Refusal(RefusalKind.MALFORMED, "'oldKey' is not the key of the account")
        if new_key.thumbprint == asked.account.thumbprint:
            raise Refusal(RefusalKind.CONFLICT, "the account has this key already", location=asked.account.id)
        await self._authority.check_key(new_key.spki_der)
        return await self._server.store.change_key(
            asked.account.id, asked.account.thumbprint, new_key.jwk, new_key.thumbprint
        )
