"""`[acme]`: renewal, how far a proof of control reaches; and what `acme_accounts` has."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from opencertd.acme.orders import OrderTerms
from opencertd.acme.renewal import LEAST_POLL, RenewalTerms
from opencertd.model.durations import parse_duration
from opencertd.settings.acme_accounts import AccountSettings
from opencertd.settings.acme_auto_renewal import AutoRenewalSettings
from opencertd.settings.faults import FaultSettings
from opencertd.validation.attestation import Roots

AUTHORIZATION_LIFETIME = OrderTerms("default").authorization_lifetime


def _window(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] >= value[1]:
        raise ValueError("the first part of the life must come before the second, such as [0.6, 0.7]")
    return value


def _poll(value: str) -> str:
    if parse_duration(value) < LEAST_POLL:
        raise ValueError("clients must not be told to look more often than once a minute")
    return value


def _reuse(value: str) -> str:
    if not timedelta(0) < parse_duration(value) <= AUTHORIZATION_LIFETIME:
        raise ValueError("a proof serves further orders for at most 7d; leave the key out for not at all")
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
    authorization_reuse: Annotated[str, AfterValidator(_reuse)] | None = None
    subdomains: bool = False
    explanation_url: Annotated[str, AfterValidator(_page)] | None = None
    auto_renewal: AutoRenewalSettings = AutoRenewalSettings()
    test_faults: FaultSettings = FaultSettings()

    def renewal_terms(self) -> RenewalTerms:
        """For the ACME edge."""
        return RenewalTerms(self.renewal_window, parse_duration(self.renewal_poll), self.explanation_url)

    def order_terms(self, challenges: tuple[str, ...], devices: Roots) -> OrderTerms:
        """For the ACME edge; `challenges`: those offered; `devices`: whose attestations are taken."""
        reuse = None if self.authorization_reuse is None else parse_duration(self.authorization_reuse)
        return OrderTerms(
            "default",
            challenges=challenges,
            reuse=reuse,
            subdomains=self.subdomains,
            devices=devices,
            auto_renewal=self.auto_renewal.terms(),
        )
