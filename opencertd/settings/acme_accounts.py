"""What `[acme]` says of accounts: terms of service, and who may have one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict
from twisted.internet.defer import Deferred

from opencertd.acme.documents import Meta
from opencertd.acme.external_account import EabKey
from opencertd.keys.sealing import EAB_FILE, Sealing
from opencertd.validation.dns_persist import PersistTerms


def _page(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not value.isascii():
        raise ValueError("must be an http:// or https:// URL")
    if any(character in value for character in ' <>"\\^`{|}') or not value.isprintable():
        raise ValueError("has a character that no URL has")  # it goes into Link headers
    return value


Page = Annotated[str, AfterValidator(_page)]
"""A URL that answers and Link headers may hold."""


class AccountSettings(BaseModel):
    """The part of `[acme]` that is about accounts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    terms_of_service: Page | None = None
    website: Page | None = None
    external_account_required: bool = False

    def meta(self, caa_identities: tuple[str, ...], persist: PersistTerms | None) -> Meta:
        """What the ACME directory tells of the CA."""
        return Meta(
            website=self.website,
            terms_of_service=self.terms_of_service,
            external_account_required=self.external_account_required,
            caa_identities=caa_identities,
            persist=persist,
        )


def eab_opener(
    keys: Path, elsewhere: Callable[[Callable[[], bytes]], Deferred[bytes]]
) -> Callable[[EabKey], Deferred[bytes]]:
    """What decrypts MAC keys, in a thread. `keys`: the directory that holds the file they are encrypted under."""
    sealing = Sealing(keys / EAB_FILE)
    return lambda key: elsewhere(lambda: sealing.open(key.id, key.sealed))
