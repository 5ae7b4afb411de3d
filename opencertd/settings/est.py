"""`[est]`: how EST answers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from opencertd.settings.manufacturers import Manufacturer, ManufacturerTable

Binding = Literal["off", "when-present", "required"]


class EstProfileSettings(BaseModel):
    """`[est.profiles.NAME]`: what is otherwise for one profile. `channel_binding` None: as for the others.

    `renewal_by_token`: see `EstServer`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channel_binding: Binding | None = None
    renewal_by_token: bool = False


class EstSettings(BaseModel):
    """`body`: `BodyForm`. `csrattrs`: to whom it is told. `client_certificate_may_enrol_any_name`: see `EstServer`.

    `serverkeygen`: whether it is offered. `decrypt_keys`: a file of secrets to encrypt such keys to. `channel_binding`:
    `BindingRule`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    body: Literal["auto", "wrapped", "single"] = "auto"
    serverkeygen: bool = True
    decrypt_keys: Path | None = None
    csrattrs: Literal["authenticated", "anonymous"] = "authenticated"
    client_certificate_may_enrol_any_name: bool = False
    channel_binding: Binding = "when-present"
    profiles: dict[str, EstProfileSettings] = {}
    manufacturers: dict[Manufacturer, ManufacturerTable] = {}
