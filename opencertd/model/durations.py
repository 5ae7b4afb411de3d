"""Lengths of time as people write them: a number and a unit."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "y": timedelta(days=365),
}


def parse_duration(text: str) -> timedelta:
    """`90d` as a length of time; units s, m(inutes), h, d, w, y(ears of 365 days). Raises ValueError in words."""
    match = re.fullmatch(r"([0-9]{1,9})([smhdwy])", text)
    if match is None:
        raise ValueError("write a length of time as a number and a unit of s, m, h, d, w or y, such as 90d")
    try:
        return int(match[1]) * _UNITS[match[2]]
    except OverflowError:
        raise ValueError("it is longer than time goes on") from None
