"""What a token's claims grant: roles, and the names that its bearer may have in certificates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opencertd.model.requester import ANY_NAME, REGISTRATION_AUTHORITY, NameGrant

_MOST = 100
_LONGEST = 255


@dataclass(frozen=True)
class Claims:
    """Where roles and names stand. A claim is its name, or names with dots between for one that is inside others
    (`realm_access.roles`); its value a list of texts, or one text with blanks between (as `scope` is, RFC 8693 §4.2).

    `names`: patterns as in `NameGrant`; who has a token without that claim may have no name. None: every name.
    """

    roles: str = "roles"
    names: str | None = None

    def roles_of(self, claims: dict[str, Any]) -> frozenset[str]:
        """The roles; without the one that certificates alone give."""
        return frozenset(_texts(_find(claims, self.roles))) - {REGISTRATION_AUTHORITY}

    def grant_of(self, claims: dict[str, Any]) -> NameGrant:
        """The names."""
        return ANY_NAME if self.names is None else NameGrant(patterns=tuple(_texts(_find(claims, self.names))))


def _find(claims: dict[str, Any], name: str) -> Any:
    """By its whole name first: such names as https://ca.example/roles have dots themselves."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _texts(value: Any) -> list[str]:
    """The texts of a claim; nothing at all when there are more than anybody needs."""
    values = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
    texts = [text for text in values if isinstance(text, str) and 0 < len(text) <= _LONGEST]
    return texts if len(texts) <= _MOST else []
