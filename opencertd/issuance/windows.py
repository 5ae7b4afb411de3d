"""From when until when a certificate is good: as its profile has it, or as was asked for, within what that allows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509

from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.profiles import Profile, validity
from opencertd.model.request import Window

_SECOND = timedelta(seconds=1)  # the last second belongs to a validity (RFC 5280 §4.1.2.5)


def first_and_last(
    profile: Profile, issuer: x509.Certificate, now: datetime, wished: timedelta | Window | None
) -> tuple[datetime, datetime]:
    """First and last second of a certificate that is issued `now`, within the issuer's own.

    Whatever is asked for, it is not over yet, is not longer than the profile's longest, and ends no later than one of
    that length would that begins now. Refusals: as `profiles.validity`, and MALFORMED for times that are not possible.
    """
    if not isinstance(wished, Window):
        return validity(profile, issuer, now, wished)
    usual = validity(profile, issuer, now)  # which also raises when the issuer's own certificate is not valid
    if not (profile.validity_may_be_asked or wished.rolling):
        raise _refused(f"the profile {profile.name!r} sets the validity; notBefore and notAfter cannot be chosen")
    now = now.replace(microsecond=0)
    _check_times(profile, wished, now)
    first, last = _meant(profile, usual, now, wished)
    if wished.rolling:
        first, last = max(first, issuer.not_valid_before_utc), min(last, issuer.not_valid_after_utc)
    _check(profile, first, last, now)
    if first < issuer.not_valid_before_utc or last > issuer.not_valid_after_utc:
        own = f"from {_text(issuer.not_valid_before_utc)} until {_text(issuer.not_valid_after_utc)}"
        raise _refused(f"the issuing CA's own certificate is good {own}")
    return first, last


def _meant(
    profile: Profile, usual: tuple[datetime, datetime], now: datetime, wished: Window
) -> tuple[datetime, datetime]:
    """What was left open is as the profile has it, as far as that fits what was not."""
    if wished.not_before is None:
        last = wished.not_after or usual[1]
        # A validity of the full length is meant from now on: setting its beginning back would make it too long.
        return max(usual[0], min(now + _SECOND, last - profile.longest + _SECOND)), last
    end = min(wished.not_before + profile.validity, now + profile.longest) - _SECOND
    return wished.not_before, wished.not_after or end


def _check_times(profile: Profile, wished: Window, now: datetime) -> None:
    """Each by itself: what passes is near enough to calculate with."""
    if wished.not_after is not None and wished.not_after < now:
        raise _refused(f"a validity until {_text(wished.not_after)} would be over already")
    if wished.not_before is not None and wished.not_before >= now + profile.longest:
        raise _refused(f"a validity from {_text(wished.not_before)} on would begin too late")


def _check(profile: Profile, first: datetime, last: datetime, now: datetime) -> None:
    if last < first:
        raise _refused(f"a validity from {_text(first)} until {_text(last)} would be over before it begins")
    if last < now:
        raise _refused(f"a validity until {_text(last)} would be over already")
    latest = min(first, now + _SECOND) + profile.longest - _SECOND
    if last > latest:
        raise _refused(
            f"a validity from {_text(first)} until {_text(last)} is asked; the profile {profile.name!r} allows one "
            f"until {_text(latest)}"
        )


def _refused(words: str) -> Refusal:
    return Refusal(RefusalKind.MALFORMED, words)


def _text(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
