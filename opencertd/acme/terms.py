"""Terms of service: who has agreed to which, and what those are told who have not (RFC 8555 §7.3, §7.3.3)."""

from __future__ import annotations

from opencertd.acme.states import Account
from opencertd.errors import Refusal, RefusalKind


def has_agreed(account: Account, terms_url: str | None) -> bool:
    """Whether the account has agreed to these terms; those of another URL are others."""
    return terms_url is None or account.terms_url == terms_url


def check_agreed(account: Account, terms_url: str | None) -> None:
    """Raises USER_ACTION_REQUIRED until the account has agreed to the terms as they are now (§7.3.3)."""
    if not has_agreed(account, terms_url):
        raise Refusal(
            RefusalKind.USER_ACTION_REQUIRED,
            f"the terms of service have changed: read {terms_url}, then agree by sending 'termsOfServiceAgreed': true "
            "to the account's URL or to newAccount",
            link=(terms_url or "", "terms-of-service"),
        )


def not_agreed(terms_url: str) -> Refusal:
    """What a new account without agreement is told (§7.3)."""
    return Refusal(
        RefusalKind.MALFORMED,
        f"the terms of service at {terms_url} must be agreed to ('termsOfServiceAgreed')",
        link=(terms_url, "terms-of-service"),
    )
