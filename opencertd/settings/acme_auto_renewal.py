"""`[acme.auto_renewal]`: short-term certificates that renew themselves (RFC 8739)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from opencertd.acme.auto_renewal import StarTerms
from opencertd.errors import StartError
from opencertd.issuance.profiles import Profile
from opencertd.model.durations import parse_duration
from opencertd.model.request import IssuingProtocol

_LEAST = timedelta(seconds=10)
_MOST = timedelta(days=3650)


def _lifetime(value: str) -> str:
    if parse_duration(value) < _LEAST:
        raise ValueError("certificates cannot be renewed more often than every 10 seconds")
    return value


def _duration(value: str) -> str:
    if parse_duration(value) > _MOST:
        raise ValueError("an order cannot have certificates for longer than ten years")
    return value


def check_offered(settings: AutoRenewalSettings, profiles: Mapping[str, Profile]) -> None:
    """Raise StartError for profiles that ACME clients cannot name."""
    for name in settings.profiles:
        profile = profiles.get(name)
        if profile is None or not profile.public or IssuingProtocol.ACME not in profile.protocols:
            raise StartError(f"bad setting 'acme.auto_renewal.profiles': ACME offers no profile {name!r}")


class AutoRenewalSettings(BaseModel):
    """`[acme.auto_renewal]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = False
    min_lifetime: Annotated[str, AfterValidator(_lifetime)] = "1d"
    max_duration: Annotated[str, AfterValidator(_duration)] = "365d"
    certificate_get: bool = False
    profiles: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _together(self) -> AutoRenewalSettings:
        if parse_duration(self.max_duration) < parse_duration(self.min_lifetime):
            raise ValueError("max_duration is less than min_lifetime: there could be no certificate")
        return self

    def terms(self) -> StarTerms | None:
        """For the ACME edge; None: it is not offered."""
        if not self.enabled:
            return None
        return StarTerms(
            min_lifetime=parse_duration(self.min_lifetime),
            max_duration=parse_duration(self.max_duration),
            by_get=self.certificate_get,
            profiles=frozenset(self.profiles) or None,
        )
