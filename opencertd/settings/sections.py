"""The short tables of the settings file: `[access]`, `[pkcs11]`, `[keys]`, `[lint]`, `[audit]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from opencertd.asn1 import dn


class AccessSettings(BaseModel):
    """`[access]`: who may do more than others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revokers: tuple[str, ...] = ()
    hold: bool = True

    @field_validator("revokers")
    @classmethod
    def _subjects(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for subject in value:
            dn.parse_dn(subject)
        return value


class Pkcs11Settings(BaseModel):
    """`[pkcs11]`: the token that keys of CAs may be in. All three keys, or none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    module: Path | None = None
    token: str | None = None
    pin_file: Path | None = None

    @model_validator(mode="after")
    def _together(self) -> Pkcs11Settings:
        given = (self.module, self.token, self.pin_file)
        if any(given) and not all(given):
            raise ValueError("module, token and pin_file go together: give all three")
        return self


class KeySettings(BaseModel):
    """`[keys]`: lists of keys that are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    blocklist: Path | None = None
    debian_weak: tuple[Path, ...] = ()


class LintSettings(BaseModel):
    """`[lint]`: who looks at certificates before they are signed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pkilint: Literal["off", "warn", "refuse"] = "off"


class AuditSettings(BaseModel):
    """`[audit]`: how often a checkpoint of the audit chain is signed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkpoint_rows: Annotated[int, Field(ge=1)] = 1000
    checkpoint_minutes: Annotated[int, Field(ge=1, le=1440)] = 5
