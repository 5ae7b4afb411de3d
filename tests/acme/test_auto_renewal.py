"""When certificates that renew themselves begin and end, and when each is there (RFC 8739 §3.3, §3.5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from opencertd.acme.auto_renewal import (
    AutoRenewal,
    StarTerms,
    due_after,
    first_step,
    granted,
    parse_auto_renewal,
    slot,
    slot_at,
)
from opencertd.errors import Refusal, RefusalKind
from opencertd.store.acme_renewals import renewal_json, renewal_of

NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
TERMS = StarTerms(min_lifetime=HOUR, max_duration=365 * DAY, by_get=True)


def january(day: int) -> datetime:
    return datetime(2016, 1, day, tzinfo=UTC)


def test_the_example_of_the_rfc() -> None:
    """§3.5.1, to the second."""
    renewal = AutoRenewal(start=january(10), end=january(20), lifetime=4 * DAY, adjust=3 * DAY)
    first = first_step(renewal, january(9))
    series = [slot(renewal, first, number) for number in range(3)]
    assert [(each.not_before, each.not_after) for each in series] == [
        (january(10), january(14)),
        (january(11), january(18)),
        (january(15), january(20)),
    ]
    assert [due_after(renewal, first, number) for number in range(3)] == [january(11), january(15), None]


renewals = some.builds(
    AutoRenewal,
    start=some.none() | some.integers(-(10**6), 10**6).map(lambda seconds: NOW + seconds * SECOND),
    end=some.integers(1, 10**7).map(lambda seconds: NOW + seconds * SECOND),
    lifetime=some.integers(10, 10**6).map(lambda seconds: seconds * SECOND),
    adjust=some.integers(0, 10**6).map(lambda seconds: seconds * SECOND),
    by_get=some.booleans(),
).filter(lambda renewal: renewal.start is None or renewal.start < renewal.end)


@given(renewals, some.integers(0, 10**7))
def test_whatever_is_ordered_and_whenever_one_looks(renewal: AutoRenewal, seconds: int) -> None:
    first = first_step(renewal, NOW)
    now = first + seconds * SECOND
    due = slot_at(renewal, first, now)
    assert due.not_before < due.not_after <= renewal.end
    assert due.not_after - due.not_before <= 2 * renewal.lifetime
    if renewal.start is not None:
        assert due.not_before >= renewal.start  # §3.5: of the first; so of all
    later = due_after(renewal, first, due.number)
    if due.number:
        before = slot(renewal, first, due.number - 1)
        halfway = before.not_after - (before.not_after - (first + (due.number - 1) * renewal.lifetime)) / 2
        assert due.not_before <= halfway + SECOND and due.not_before <= now  # §3.3: early enough, and valid by then
    if later is not None:
        assert due.number < slot_at(renewal, first, later).number and now < later < due.not_after
        assert slot(renewal, first, due.number + 1).not_before == later
    elif now < renewal.end:
        assert due.not_after == renewal.end and now <= due.not_after


@given(renewals)
def test_a_series_leaves_no_gap_and_ends_at_its_end(renewal: AutoRenewal) -> None:
    first = first_step(renewal, NOW)
    at, number, count = first, slot_at(renewal, first, first).number, 0
    while (later := due_after(renewal, first, number)) is not None and count < 300:
        assert later <= slot(renewal, first, number).not_after and later >= at
        at, number, count = later, number + 1, count + 1
    assert count == 300 or slot(renewal, first, number).not_after == renewal.end


@given(renewals)
def test_it_is_kept_as_it_is(renewal: AutoRenewal) -> None:
    assert renewal_of(renewal_json(renewal)) == renewal


def wish(**members: Any) -> dict[str, Any]:
    return {"end-date": "2031-06-06T07:08:09Z", "lifetime": 86400, **members}


def test_what_is_asked() -> None:
    assert parse_auto_renewal(None) is None
    asked = parse_auto_renewal(
        wish(**{"start-date": "2031-05-07T09:08:09+02:00", "lifetime-adjust": 5, "allow-certificate-get": True, "x": 1})
    )
    end = datetime(2031, 6, 6, 7, 8, 9, tzinfo=UTC)
    assert asked == AutoRenewal(end=end, lifetime=DAY, start=NOW + DAY, adjust=5 * SECOND, by_get=True)
    assert granted(asked, TERMS, "default", NOW) == asked
    assert not granted(asked, StarTerms(HOUR, 365 * DAY), "default", NOW).by_get


@pytest.mark.parametrize(
    "value",
    [
        5,
        [],
        "",
        {},
        {"end-date": "2031-06-06T07:08:09Z"},
        {"lifetime": 86400},
        wish(lifetime=0),
        wish(lifetime=-1),
        wish(lifetime=1.5),
        wish(lifetime=True),
        wish(lifetime="86400"),
        wish(lifetime=10**30),
        wish(**{"lifetime-adjust": -1}),
        wish(**{"lifetime-adjust": "1"}),
        wish(**{"end-date": "soon"}),
        wish(**{"end-date": 1}),
        wish(**{"start-date": "2031-05-07"}),
    ],
)
def test_what_is_not_understood_is_malformed(value: Any) -> None:
    with pytest.raises(Refusal) as caught:
        parse_auto_renewal(value)
    assert caught.value.kind is RefusalKind.MALFORMED and "'auto-renewal'" in caught.value.detail


@pytest.mark.parametrize(
    ("asked", "terms", "words"),
    [
        (AutoRenewal(NOW + DAY, HOUR), None, "not offered here"),
        (
            AutoRenewal(NOW + DAY, HOUR),
            StarTerms(HOUR, DAY, profiles=frozenset({"other"})),
            "for the profile 'default'",
        ),
        (AutoRenewal(NOW + DAY, HOUR - SECOND), TERMS, "3600 seconds at the least"),
        (AutoRenewal(NOW + 366 * DAY, HOUR), TERMS, "31536000 seconds after its beginning"),
        (AutoRenewal(NOW + DAY, HOUR, start=NOW - 365 * DAY), TERMS, "31536000 seconds"),
        (AutoRenewal(NOW + 1000 * DAY, HOUR, start=NOW + 900 * DAY), TERMS, "31536000 seconds"),
        (AutoRenewal(NOW, HOUR), TERMS, "is over"),
        (AutoRenewal(NOW + DAY, HOUR, start=NOW + DAY), TERMS, "is over"),
        (AutoRenewal(datetime(1, 1, 1, tzinfo=UTC), HOUR, start=datetime(9999, 1, 1, tzinfo=UTC)), TERMS, "is over"),
        (AutoRenewal(datetime(9999, 1, 1, tzinfo=UTC), HOUR), TERMS, "31536000 seconds"),
    ],
)
def test_what_is_not_granted(asked: AutoRenewal, terms: StarTerms | None, words: str) -> None:
    with pytest.raises(Refusal) as caught:
        granted(asked, terms, "default", NOW)
    assert caught.value.kind is RefusalKind.MALFORMED and words in caught.value.detail
