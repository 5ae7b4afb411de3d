"""`[acme]`: what clients are told of renewal; and what `acme_account_settings` has."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from opencertd.acme.renewal import LEAST_POLL, RenewalTerms
from opencertd.acme_account_settings import AccountSettings
from opencertd.model.durations import parse_duration


def _window(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] >= value[1]:
        raise ValueError("the first part of the life must come before the second, such as [0.6, 0.7]")
    return value


def _poll(value: str) -> str:
    if parse_duration(value) < LEAST_POLL:
        raise ValueError("clients must not be told to look more often than once a minute")
    return value


def _page(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not value.isascii() or " " in value:
        raise ValueError("must be an http:// or https:// URL")
    return value


PartOfLife = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class AcmeSettings(AccountSettings):
    """`[acme]`."""

    renewal_window: Annotated[tuple[PartOfLife, PartOfLife], AfterValidator(_window)] = (0.6, 0.7)
    renewal_poll: Annotated[str, AfterValidator(_poll)] = "6h"
    explanation_url: Annotated[str, AfterValidator(_page)] | None = None

    def renewal_terms(self) -> RenewalTerms:
        """For the ACME edge."""
        return RenewalTerms(self.renewal_window, parse_duration(self.renewal_poll), self.explanation_url)
