"""Values as columns: times are BIGINT since 1970 in UTC, serials lower-case hex, names and the like JSON.

Times of certificates, CRLs and ACME are whole seconds, as their formats have them. Jobs and the feed of revocations
need finer ones and are kept in milliseconds. Both round down.
"""

from __future__ import annotations

import base64
import enum
import json
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import BigInteger, Dialect, Text
from sqlalchemy.types import TypeDecorator

from opencertd.model.names import AltName, AltNameKind

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_MILLISECOND = timedelta(milliseconds=1)
_COMPACT = json.JSONEncoder(separators=(",", ":"))  # made once: `json.dumps` makes one at every call

E = TypeVar("E", bound=enum.Enum)


class Seconds(TypeDecorator[datetime]):
    """An aware time as whole seconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else (value - _EPOCH) // _SECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else _EPOCH + value * _SECOND


class Milliseconds(TypeDecorator[datetime]):
    """An aware time as whole milliseconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else (value - _EPOCH) // _MILLISECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else _EPOCH + value * _MILLISECOND


class Serial(TypeDecorator[int]):
    """A serial number as lower-case hex without leading zeros: 20 octets fit no integer type."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:
        return None if value is None else f"{value:x}"

    def process_result_value(self, value: str | None, dialect: Dialect) -> int | None:
        return None if value is None else int(value, 16)


class Word(TypeDecorator[E]):
    """A member of an enumeration as its value: the word a person reads in the table."""

    impl = Text
    cache_ok = True

    def __init__(self, members: type[E]) -> None:
        super().__init__()
        self.members = members

    def process_bind_param(self, value: E | None, dialect: Dialect) -> str | None:
        return None if value is None else str(value.value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> E | None:
        return None if value is None else self.members(value)


class Json(TypeDecorator[Any]):
    """Whatever JSON can say, as compact text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else _COMPACT.encode(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


class Names(TypeDecorator[tuple[AltName, ...]]):
    """Names as a JSON list of pairs, kind and value."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[AltName, ...] | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        return _COMPACT.encode([[name.kind.value, name.value] for name in value])

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[AltName, ...] | None:
        if value is None:
            return None
        return tuple(AltName(AltNameKind(kind), text) for kind, text in json.loads(value))


class DerList(TypeDecorator[tuple[bytes, ...]]):
    """DER values as a JSON list of base64."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[bytes, ...] | None, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps([base64.b64encode(der).decode() for der in value])

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[bytes, ...] | None:
        return None if value is None else tuple(base64.b64decode(der) for der in json.loads(value))
