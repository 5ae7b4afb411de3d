"""What there may be how much of, and for how long: `[retention]`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class RetentionSettings(BaseModel):
    """`[retention]`: how long what has ended is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    orders_days: Annotated[int, Field(ge=1, le=36500)] = 30
    crls_days: Annotated[int, Field(ge=1, le=36500)] = 30
