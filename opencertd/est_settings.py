"""`[est]`: how EST answers."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class EstSettings(BaseModel):
    """`body`: `BodyForm`. `csrattrs`: to whom it is told. `client_certificate_may_enrol_any_name`: see `EstServer`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    body: Literal["auto", "wrapped", "single"] = "auto"
    csrattrs: Literal["authenticated", "anonymous"] = "authenticated"
    client_certificate_may_enrol_any_name: bool = False
