"""The directory, and one for each profile, as bytes that are made once for as long as the profiles stay the same."""

from __future__ import annotations

from collections.abc import Mapping

from opencertd.acme.documents import Meta, directory
from opencertd.acme.encoding import encode_json
from opencertd.acme.offer import Offer
from opencertd.acme.urls import Urls
from opencertd.errors import Refusal, RefusalKind


class Directories:
    """`meta`: what they tell beside URLs and profiles."""

    def __init__(self, where: Urls, meta: Meta, offer: Offer) -> None:
        self._where = where
        self._meta = meta
        self._offer = offer
        self._profiles: Mapping[str, str] = {}
        self._made: dict[str | None, bytes] = {}

    def of(self, profile: str | None) -> bytes:
        """The directory of a profile, or the one for all. Raises NOT_FOUND for a profile that is not offered."""
        profiles = self._offer.profiles()
        if profile is not None and profile not in profiles:
            raise Refusal(RefusalKind.NOT_FOUND, f"there is no profile {profile[:80]!r}")
        if profiles is not self._profiles:  # they change when the settings are read again
            self._profiles, self._made = profiles, {}
        if profile not in self._made:
            self._made[profile] = encode_json(directory(self._where, self._meta, profiles, profile))
        return self._made[profile]
