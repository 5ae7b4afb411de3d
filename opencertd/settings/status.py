"""`[status]`: what OCSP keeps at hand."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class StatusSettings(BaseModel):
    """`[status]`: memory of prepared OCSP answers, in MiB of each worker; whether they are made before anybody asks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prepared_mib: Annotated[int, Field(ge=1, le=65536)] = 512
    prepare_ahead: bool = False
