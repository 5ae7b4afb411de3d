"""What there may be how much of, and for how long: `[limits]` and `[retention]`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from opencertd.acme.limits import Limit, Limits, Rate
from opencertd.acme.pausing import STREAK_ENDS, PauseTerms
from opencertd.model.durations import parse_duration
from opencertd.settings.acme_accounts import Page

OFF = "off"


def parse_rate(text: str) -> Rate | None:
    """`300 per 3h` as a rate, `off` as None. Raises ValueError in words."""
    if text == OFF:
        return None
    count, per, period = (*text.split(), "", "", "")[:3]
    if len(text.split()) != 3 or per != "per" or not count.isascii() or not count.isdigit():
        raise ValueError("write a rate as a number, 'per' and a length of time, such as '300 per 3h', or 'off'")
    rate, length = int(count), parse_duration(period)
    if not 1 <= rate <= 1_000_000 or not 1 <= length.days * 86_400 + length.seconds <= 366 * 86_400:
        raise ValueError("a rate is from 1 to 1000000 in a time from a second to a year")
    return Rate(rate, length)


def _rate(text: str) -> str:
    parse_rate(text)
    return text


def _pause(text: str) -> str:
    if text != OFF and not STREAK_ENDS <= parse_duration(text) <= timedelta(days=366):
        raise ValueError("a client is paused after 7d to a year of failures, or never: 'off'")
    return text


RateText = Annotated[str, AfterValidator(_rate)]


class OverrideTable(BaseModel):
    """One `[[limits.overrides]]`: another rate for a single account, network or domain."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: Limit
    key: Annotated[str, Field(min_length=1, max_length=300)]
    rate: RateText


class LimitSettings(BaseModel):
    """`[limits]`: how often what may be asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accounts_per_address: RateText = OFF
    orders_per_account: RateText = OFF
    failures_per_name: RateText = OFF
    certificates_per_domain: RateText = OFF
    overrides: tuple[OverrideTable, ...] = ()
    pause_after: Annotated[str, AfterValidator(_pause)] = OFF
    pause_failures: Annotated[int, Field(ge=3, le=1_000_000)] = 20
    pause_help_url: Page | None = None

    def pausing(self) -> PauseTerms | None:
        """When clients that only fail are paused."""
        if self.pause_after == OFF:
            return None
        return PauseTerms(parse_duration(self.pause_after), self.pause_failures, self.pause_help_url)

    def build(self) -> Limits:
        """For the ACME edge."""
        rates = {limit: parse_rate(getattr(self, limit.value)) for limit in Limit}
        return Limits(
            {limit: rate for limit, rate in rates.items() if rate is not None},
            {(each.limit, each.key): parse_rate(each.rate) for each in self.overrides},
            self.pausing(),
        )


class RetentionSettings(BaseModel):
    """`[retention]`: how long what has ended is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    orders_days: Annotated[int, Field(ge=1, le=36500)] = 30
    crls_days: Annotated[int, Field(ge=1, le=36500)] = 30
    pauses_days: Annotated[int, Field(ge=1, le=36500)] = 365
    approvals_days: Annotated[int, Field(ge=1, le=36500)] = 30
    enrolment_passwords_days: Annotated[int, Field(ge=1, le=36500)] = 30
