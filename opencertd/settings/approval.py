"""`[approval]`: requests under profiles that want a person's approval."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from opencertd.issuance.approvals import ApprovalTerms
from opencertd.model.durations import parse_duration

_LONGEST = timedelta(days=366)


def _expiry(text: str) -> str:
    if not timedelta(minutes=1) <= parse_duration(text) <= _LONGEST:
        raise ValueError("must be from a minute to a year")
    return text


def _pause(text: str) -> str:
    if not timedelta(seconds=1) <= parse_duration(text) <= timedelta(days=1):
        raise ValueError("must be from a second to a day")
    return text


class ApprovalSettings(BaseModel):
    """`expires`, `retry_after`: lengths of time; `waiting_per_requester`: how many at once. See `ApprovalTerms`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    expires: Annotated[str, AfterValidator(_expiry)] = "7d"
    retry_after: Annotated[str, AfterValidator(_pause)] = "1m"
    waiting_per_requester: Annotated[int, Field(ge=1, le=10_000)] = 10

    def terms(self) -> ApprovalTerms:
        """For the core."""
        return ApprovalTerms(
            parse_duration(self.expires),
            int(parse_duration(self.retry_after).total_seconds()),
            self.waiting_per_requester,
        )
