"""`[crls]`: how long CRLs hold, over how many of them certificates are spread, and where else they are put."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from opencertd.crl.push import Places
from opencertd.crl.terms import CrlTerms
from opencertd.model.crl_parts import MOST_SHARDS, PLACE, Partition
from opencertd.settings.urls import http_url


def _delta_url(value: str) -> str:
    if PLACE in value:
        raise ValueError("there are delta CRLs of all certificates only: write the URL without {part}")
    return http_url(value)


class CrlSettings(BaseModel):
    """The table. What certificates say of it is in the URLs of `crl`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    validity_hours: Annotated[int, Field(ge=2, le=24 * 400)] = 168
    interval_hours: Annotated[int, Field(ge=1, le=24 * 200)] = 24
    shards: Annotated[int, Field(ge=0, le=MOST_SHARDS)] = 0
    apart: bool = False
    delta: tuple[Annotated[str, AfterValidator(_delta_url)], ...] = ()
    wait_seconds: Annotated[int, Field(ge=0, le=86_400)] = 0
    push_directory: Path | None = None
    push_urls: tuple[Annotated[str, AfterValidator(http_url)], ...] = ()

    @model_validator(mode="after")
    def _together(self) -> CrlSettings:
        if self.interval_hours >= self.validity_hours:
            raise ValueError(
                "interval_hours must be less than validity_hours: clients would be without a CRL between two"
            )
        if self.wait_seconds and not (self.shards or self.delta):
            raise ValueError("wait_seconds needs shards or delta: else a revocation would show on no CRL for that long")
        if self.wait_seconds >= self.interval_hours * 3600:
            raise ValueError("wait_seconds must be less than interval_hours")
        return self

    def places(self) -> Places:
        """Where else CRLs are put."""
        return Places(self.push_directory, self.push_urls)

    def partition(self) -> Partition:
        """How new certificates are spread."""
        return Partition(self.shards, self.apart)

    def terms(self, points: tuple[str, ...]) -> CrlTerms:
        """For the CRL room. `points`: the URLs of `crl`."""
        return CrlTerms(
            validity=timedelta(hours=self.validity_hours),
            interval=timedelta(hours=self.interval_hours),
            partition=self.partition(),
            points=tuple(url for url in points if PLACE in url),
            delta=self.delta,
            wait=self.wait_seconds,
        )
