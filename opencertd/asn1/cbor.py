"""CBOR (RFC 8949), as much as WebAuthn attestation objects have of it: read strictly, bounded in depth and number.

Definite lengths only, no tags, no floats, text keys in maps that stand once: what else may be meant is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Value: TypeAlias = "int | bytes | str | bool | list[Value] | dict[str, Value] | None"

DEPTH = 8
ITEMS = 1000

_SIMPLE: dict[int, bool | None] = {20: False, 21: True, 22: None}


class CborError(ValueError):
    """The octets are no CBOR that is read here; the words say why."""


def parse_cbor(data: bytes) -> Value:
    """The one item that `data` is. Raises `CborError`."""
    reader = _Reader(data)
    value = reader.item()
    if reader.at != len(data):
        raise CborError("octets follow the item")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = ITEMS
        self._depth = 0
        self.at = 0

    def item(self) -> Value:
        """The item that begins at `at`, which then is its end."""
        self._left -= 1
        if self._depth > DEPTH or self._left < 0:
            raise CborError("it is nested too deeply, or has too many items")
        first = self._take(1)[0]
        major, info = first >> 5, first & 31
        if major == 7:
            if info not in _SIMPLE:
                raise CborError("it has a float or a simple value that is not read here")
            return _SIMPLE[info]
        number = self._argument(info)
        if major < 2:
            return -1 - number if major else number
        ways: dict[int, Callable[[int], Value]] = {2: self._take, 3: self._text, 4: self._list, 5: self._map}
        read = ways.get(major)
        if read is None:
            raise CborError("it has a tag")
        return read(number)

    def _argument(self, info: int) -> int:
        if info < 24:
            return info
        if info > 27:
            raise CborError("a length is indefinite or reserved")
        return int.from_bytes(self._take(1 << info - 24), "big")

    def _take(self, count: int) -> bytes:
        if count > len(self._data) - self.at:
            raise CborError("it ends too soon")
        self.at += count
        return self._data[self.at - count : self.at]

    def _text(self, length: int) -> str:
        try:
            return self._take(length).decode()
        except UnicodeDecodeError:
            raise CborError("a text is not UTF-8") from None

    def _list(self, count: int) -> list[Value]:
        self._open(count)
        found = [self.item() for _ in range(count)]
        self._depth -= 1
        return found

    def _map(self, count: int) -> dict[str, Value]:
        self._open(count)
        found: dict[str, Value] = {}
        for _ in range(count):
            key = self.item()
            if not isinstance(key, str) or key in found:
                raise CborError("a map's key is no text, or stands twice")
            found[key] = self.item()
        self._depth -= 1
        return found

    def _open(self, count: int) -> None:
        if count > self._left:
            raise CborError("it has too many items")
        self._depth += 1
