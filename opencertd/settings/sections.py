"""The short tables of the settings file: `[access]`, `[pkcs11]`, `[keys]`, `[lint]`, `[audit]`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from opencertd.asn1 import dn
from opencertd.issuance.profile_file import build_match
from opencertd.issuance.profile_tables import RequesterTable
from opencertd.issuance.rules import RequesterMatch
from opencertd.model.requester import REGISTRATION_AUTHORITY, Proof

_NEVER = frozenset(
    proof.value
    for proof in (Proof.MANUFACTURER_CERTIFICATE, Proof.ENROLMENT_PASSWORD, Proof.ACME_ACCOUNT, Proof.OPERATOR)
)


class RoleTable(RequesterTable):
    """Who has a role. How that was proven must be said: another proof may give a stranger the same name."""

    @model_validator(mode="after")
    def _proven(self) -> RoleTable:
        if self.proof is None:
            raise ValueError('say how it is proven: proof = "tls-certificate", "password" or "bearer-token"')
        if self.proof in _NEVER:
            raise ValueError(f"nobody has a role by {self.proof}")
        if self.id is None and self.label is None and self.role is None:
            raise ValueError(f"everybody with a {self.proof} would have it: give id, label or role")
        return self


def _role(name: str) -> str:
    if name == REGISTRATION_AUTHORITY or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise ValueError(f"must be a word, and not {REGISTRATION_AUTHORITY!r}, which certificates alone make somebody")
    return name


class AccessSettings(BaseModel):
    """`[access]`: who may do more than others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revokers: tuple[str, ...] = ()
    roles: dict[Annotated[str, AfterValidator(_role)], tuple[RoleTable, ...]] = {}
    registration_authorities: tuple[str, ...] = (REGISTRATION_AUTHORITY,)
    hold: bool = True

    def given_roles(self) -> tuple[tuple[str, RequesterMatch], ...]:
        """Who has which role, besides what tokens say."""
        return tuple((role, build_match(who)) for role, tables in self.roles.items() for who in tables)

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
