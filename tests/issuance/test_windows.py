"""A validity that was asked for is given exactly, or refused; it is never more than profile and issuer allow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as some

from opencertd.asn1.dn import parse_dn
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.ceremony import make_authorities
from opencertd.issuance.profiles import Profile, validity
from opencertd.issuance.windows import first_and_last
from opencertd.model.request import Window

NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
ISSUER = x509.load_der_x509_certificate(
    next(
        each for each in make_authorities(parse_dn("CN=CA"), NOW - DAY) if each.record.parent_id
    ).record.certificate_der
)
FIXED = Profile("fixed", ())
ASKED = Profile("asked", (), validity=30 * DAY, validity_max=90 * DAY, validity_may_be_asked=True)


def asked(window: Window, profile: Profile = ASKED, now: datetime = NOW) -> tuple[datetime, datetime]:
    return first_and_last(profile, ISSUER, now, window)


def refused(window: Window, profile: Profile = ASKED) -> str:
    with pytest.raises(Refusal) as caught:
        asked(window, profile)
    assert caught.value.kind is RefusalKind.MALFORMED
    return caught.value.detail


def test_both_times_are_given_as_they_are_asked() -> None:
    for first, last in ((NOW, NOW + DAY), (NOW - DAY / 24, NOW), (NOW + DAY, NOW + 90 * DAY - SECOND)):
        assert asked(Window(first, last)) == (first, last)


def test_an_end_alone_leaves_the_beginning_to_the_profile() -> None:
    assert asked(Window(not_after=NOW + DAY)) == (NOW - ASKED.backdate, NOW + DAY)


def test_an_end_of_the_full_length_from_now_can_be_had() -> None:
    """`--valid-to +90d` means from now on: the beginning is not set back then, or it would be too long."""
    first, last = asked(Window(not_after=NOW + 90 * DAY))
    assert (first, last) == (NOW + SECOND, NOW + 90 * DAY) and last - first < ASKED.longest
    assert asked(Window(not_after=NOW + 90 * DAY), now=NOW + 5 * SECOND)[0] == NOW + SECOND


def test_a_beginning_alone_has_the_usual_length() -> None:
    assert asked(Window(NOW + DAY)) == (NOW + DAY, NOW + 31 * DAY - SECOND)
    assert asked(Window(NOW + 80 * DAY)) == (NOW + 80 * DAY, NOW + 90 * DAY - SECOND)


@pytest.mark.parametrize(
    "window",
    [
        Window(NOW, NOW + 90 * DAY),  # a second too long: both ends belong to it
        Window(NOW - DAY, NOW + 89 * DAY),
        Window(not_after=NOW + 90 * DAY + SECOND),
        Window(NOW + DAY, NOW + 90 * DAY + SECOND),  # short, but later than any that begins now
        Window(NOW + 90 * DAY),
        Window(NOW + DAY, NOW),
        Window(NOW - DAY, NOW - SECOND),
        Window(not_after=NOW - SECOND),
        Window(NOW - 3 * DAY, NOW + DAY),  # the issuer is a day old
        Window(datetime(1, 1, 1, tzinfo=UTC)),
        Window(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        Window(not_after=datetime(1, 1, 1, tzinfo=UTC)),
        Window(not_after=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_what_is_not_possible_is_refused(window: Window) -> None:
    assert refused(window)


def test_the_refusal_says_what_would_be_possible() -> None:
    assert "2031-08-04T07:08:08Z" in refused(Window(NOW, NOW + 200 * DAY))


def test_where_the_profile_sets_the_validity_nothing_can_be_asked() -> None:
    assert "'fixed' sets the validity" in refused(Window(not_after=NOW + DAY), FIXED)


def test_a_series_may_be_had_under_any_profile_and_stays_within_the_issuers_time() -> None:
    assert asked(Window(NOW, NOW + DAY, rolling=True), FIXED) == (NOW, NOW + DAY)
    begun = ISSUER.not_valid_before_utc
    assert asked(Window(begun - DAY, NOW + DAY, rolling=True), FIXED) == (begun, NOW + DAY)
    assert refused(Window(NOW, NOW + 91 * DAY, rolling=True), FIXED)


def test_nothing_asked_is_as_ever() -> None:
    for wished in (None, 5 * DAY):
        assert first_and_last(ASKED, ISSUER, NOW, wished) == validity(ASKED, ISSUER, NOW, wished)


moments = some.datetimes(datetime(2031, 1, 1), datetime(2032, 1, 1), timezones=some.just(UTC)).map(
    lambda when: when.replace(microsecond=0)
)


@given(some.none() | moments, some.none() | moments, some.booleans())
def test_whatever_is_asked_the_bounds_hold(first: datetime | None, last: datetime | None, rolling: bool) -> None:
    try:
        begin, end = asked(Window(first, last, rolling))
    except Refusal as refusal:
        assert refusal.kind is RefusalKind.MALFORMED
        return
    assert ISSUER.not_valid_before_utc <= begin <= end <= ISSUER.not_valid_after_utc
    assert end >= NOW and end - begin < ASKED.longest and end <= NOW + ASKED.longest
    if not rolling:
        assert (first or begin, last or end) == (begin, end)
