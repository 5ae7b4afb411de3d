"""Who asks whether something changed is never told "no" wrongly."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from opencertd.web.conditional import is_not_modified
from opencertd.web.headers import http_date

MODIFIED = datetime(2030, 5, 17, 12, 30, 16, tzinfo=UTC)
SAME = "Fri, 17 May 2030 12:30:16 GMT"
EARLIER = "Fri, 17 May 2030 12:30:15 GMT"
LATER = "Sat, 18 May 2030 12:30:16 GMT"


def test_the_date_is_as_http_wants_it() -> None:
    assert http_date(MODIFIED) == SAME.encode()


@pytest.mark.parametrize(
    ("if_none_match", "if_modified_since", "expected"),
    [
        (None, None, False),
        ('"a"', None, True),
        ('W/"a"', None, True),
        ('"b", "a"', None, True),
        ("*", None, True),
        ('"b"', None, False),
        ('"b"', LATER, False),  # the tag alone decides when there is one
        ('"a"', EARLIER, True),
        (None, SAME, True),
        (None, LATER, True),
        (None, EARLIER, False),
        (None, "yesterday", False),
        (None, "Fri, 99 May 2030 12:30:16 GMT", False),
        (None, "Fri, 17 May 2030 12:30:16", True),
    ],
)
def test_preconditions(if_none_match: str | None, if_modified_since: str | None, expected: bool) -> None:
    assert is_not_modified(if_none_match, if_modified_since, '"a"', MODIFIED) is expected
