"""Which profiles clients may name over ACME, and what they are told of each (draft-ietf-acme-profiles-01)."""

from __future__ import annotations

from collections.abc import Mapping

from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.authority import CertificateAuthority
from opencertd.issuance.profile_tables import EXTENDED_KEY_USAGES
from opencertd.issuance.profiles import Profile
from opencertd.model.names import AltName
from opencertd.model.request import IssuingProtocol

_PURPOSES = {oid: name for name, oid in EXTENDED_KEY_USAGES.items()}


class Offer:
    """The core's profiles as they are now. `chosen`: the profile of orders that name none."""

    def __init__(self, authority: CertificateAuthority, chosen: str) -> None:
        self.chosen = chosen
        self._authority = authority
        self._seen: Mapping[str, Profile] | None = None
        self._offered: Mapping[str, str] = {}

    def profiles(self) -> Mapping[str, str]:
        """Names of those offered, and a description of each. The same object as long as they are the same."""
        profiles = self._authority.profiles
        if profiles is not self._seen:
            self._offered = {name: describe(one) for name, one in sorted(profiles.items()) if _is_offered(one)}
            self._seen = profiles
        return self._offered

    def check(self, name: str) -> str:
        """The name of a profile that is offered. Raises INVALID_PROFILE."""
        if name not in self.profiles():
            offered = ", ".join(self.profiles())
            raise Refusal(RefusalKind.INVALID_PROFILE, f"there is no profile {name[:80]!r}; there are {offered}")
        return name

    def choose(self, wished: str | None, only: str | None, names: tuple[AltName, ...]) -> str:
        """The profile of a new order. `only`: the one of the directory by which it came. Raises INVALID_PROFILE."""
        if only is not None and wished is not None and wished != only:
            raise Refusal(
                RefusalKind.INVALID_PROFILE, f"this directory is for the profile {only!r}, not {wished[:80]!r}"
            )
        name = self.check(only or wished or self.chosen)
        kinds = self._authority.profiles[name].name_kinds
        unfit = sorted({each.kind.value for each in names if each.kind not in kinds})
        if unfit:
            raise Refusal(
                RefusalKind.INVALID_PROFILE,
                f"the profile {name!r} is not for identifiers of type {' and '.join(unfit)}",
            )
        return name


def _is_offered(profile: Profile) -> bool:
    return profile.public and IssuingProtocol.ACME in profile.protocols


def describe(profile: Profile) -> str:
    """Its description from the settings, else what it is for and how long its certificates are good."""
    if profile.description:
        return profile.description
    purposes = ", ".join(_PURPOSES.get(oid, oid.dotted_string) for oid in profile.extended_key_usages) or "any purpose"
    hours = profile.validity.total_seconds() / 3600
    return f"{purposes}; good for {f'{hours / 24:g} days' if hours >= 48 else f'{hours:g} hours'}"
