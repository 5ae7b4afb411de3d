"""`[status]`: how OCSP answers, and what of that it keeps at hand."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from opencertd.errors import StartError
from opencertd.model.durations import parse_duration
from opencertd.ocsp.terms import OcspTerms


def _window(text: str) -> str:
    if not timedelta(minutes=10) <= parse_duration(text) <= timedelta(days=10):
        raise ValueError("must be from 10 minutes to 10 days")
    return text


def _archive(text: str) -> str:
    if not timedelta(days=1) <= parse_duration(text) <= timedelta(days=100 * 365):
        raise ValueError("must be from a day to 100 years")
    return text


_Window = Annotated[str, AfterValidator(_window)]


class StatusSettings(BaseModel):
    """`[status]`: memory of prepared OCSP answers, in MiB of each worker; whether they are made before anybody asks;
    and `OcspTerms`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prepared_mib: Annotated[int, Field(ge=1, le=65536)] = 512
    prepare_ahead: bool = False
    window: _Window = "1h"
    windows: dict[str, _Window] = {}
    nonces: Literal["echo", "ignore"] = "echo"
    require_signature: bool = False
    extended_revoke: bool = False
    archive_cutoff: Annotated[str, AfterValidator(_archive)] | None = None
    responder_by: Literal["key", "name"] = "key"

    def terms(self) -> OcspTerms:
        """For the OCSP room."""
        return OcspTerms(
            window=parse_duration(self.window),
            windows={name: parse_duration(text) for name, text in self.windows.items()},
            nonces=self.nonces == "echo",
            extended_revoke=self.extended_revoke,
            archive=None if self.archive_cutoff is None else parse_duration(self.archive_cutoff),
        )

    def check_names(self, issuers: Iterable[str]) -> None:
        """Raise StartError when `windows` is for an issuer that there is not."""
        known = sorted(issuers)
        for name in self.windows:
            if name not in known:
                raise StartError(f"the setting 'status.windows': there is no CA {name!r}, but {', '.join(known)}")
