"""DER by hand for the few structures on hot paths: a value in, its exact bytes out (X.690).

Reading is for untrusted bytes: definite lengths only, nothing past the end, one error type.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
NULL = 0x05
OID = 0x06
ENUMERATED = 0x0A
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
SEQUENCE = 0x30
SET = 0x31


_LONGEST_OID = 64
"""Octets; those in use have fewer than 30, and arithmetic on endless ones takes time."""


class DerError(ValueError):
    """The bytes are not the DER that was expected."""


def header(tag: int, length: int) -> bytes:
    """Tag and definite length, for content that follows."""
    if length < 0x80:
        return bytes((tag, length))
    size = (length.bit_length() + 7) // 8
    return bytes((tag, 0x80 | size)) + length.to_bytes(size, "big")


def tlv(tag: int, content: bytes) -> bytes:
    """Tag, definite length, content."""
    return header(tag, len(content)) + content


def sequence(*parts: bytes) -> bytes:
    """SEQUENCE of encoded parts, each of which is copied once: a CRL has many megabytes."""
    return b"".join((header(SEQUENCE, sum(map(len, parts))), *parts))


def integer(number: int) -> bytes:
    """INTEGER, shortest two's complement."""
    size = number.bit_length() // 8 + 1
    return tlv(INTEGER, number.to_bytes(size, "big", signed=True))


def octet_string(content: bytes) -> bytes:
    """OCTET STRING."""
    return tlv(OCTET_STRING, content)


def bit_string(content: bytes) -> bytes:
    """BIT STRING of whole octets."""
    return tlv(BIT_STRING, b"\0" + content)


def null() -> bytes:
    """NULL."""
    return b"\x05\0"


def boolean(value: bool) -> bytes:
    """BOOLEAN."""
    return b"\x01\x01\xff" if value else b"\x01\x01\0"


def enumerated(number: int) -> bytes:
    """ENUMERATED, for small non-negative numbers."""
    return tlv(ENUMERATED, integer(number)[2:])


def oid(dotted: str) -> bytes:
    """OBJECT IDENTIFIER from its dotted form."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    content = bytearray()
    for arc in (first * 40 + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | (arc & 0x7F))
        content.extend(reversed(groups))
    return tlv(OID, bytes(content))


def explicit(number: int, content: bytes) -> bytes:
    """[number] EXPLICIT around encoded content."""
    return tlv(0xA0 | number, content)


def generalized_time(moment: datetime) -> bytes:
    """GeneralizedTime in UTC without fractions (RFC 5280 §4.1.2.5.2)."""
    return tlv(GENERALIZED_TIME, moment.astimezone(UTC).strftime("%Y%m%d%H%M%SZ").encode())


def time(moment: datetime) -> bytes:
    """Time of RFC 5280 §4.1.2.5: UTCTime until 2049, GeneralizedTime from 2050."""
    moment = moment.astimezone(UTC)
    if moment.year >= 2050:
        return generalized_time(moment)
    return tlv(UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode())


class Element(NamedTuple):
    """Where one element lies in a byte string: header from `start`, content from `content_start` to `end`."""

    tag: int
    start: int
    content_start: int
    end: int

    def content(self, data: bytes) -> bytes:
        """The content octets."""
        return data[self.content_start : self.end]

    def raw(self, data: bytes) -> bytes:
        """Header and content."""
        return data[self.start : self.end]


def read_tlv(data: bytes, offset: int = 0, limit: int | None = None) -> Element:
    """The element at `offset`, which must end by `limit` (default: the end of `data`). Single-byte tags only.

    Raises DerError for truncated, indefinite or needlessly long lengths.
    """
    limit = len(data) if limit is None else limit
    if offset + 2 > limit:
        raise DerError("truncated header")
    tag, length = data[offset], data[offset + 1]
    if tag & 0x1F == 0x1F:
        raise DerError("multi-byte tag")
    content_start = offset + 2
    if length >= 0x80:
        size = length & 0x7F
        if not 1 <= size <= 4 or content_start + size > limit:
            raise DerError("bad length")
        length = int.from_bytes(data[content_start : content_start + size], "big")
        if length < 0x80 or length >> (8 * (size - 1)) == 0:
            raise DerError("length not in shortest form")
        content_start += size
    if content_start + length > limit:
        raise DerError("truncated content")
    return Element(tag, offset, content_start, content_start + length)


def read_only(data: bytes, tag: int) -> Element:
    """The one element that is all of `data`, of the given tag. Raises DerError otherwise."""
    element = read_tlv(data)
    if element.tag != tag or element.end != len(data):
        raise DerError(f"expected one element of tag {tag:#04x} and nothing after it")
    return element


def children(data: bytes, parent: Element) -> tuple[Element, ...]:
    """The elements inside a constructed one, in order."""
    found = []
    offset = parent.content_start
    while offset < parent.end:
        element = read_tlv(data, offset, parent.end)
        found.append(element)
        offset = element.end
    return tuple(found)


def read_oid(data: bytes, element: Element) -> str:
    """The dotted form of an OBJECT IDENTIFIER. Raises DerError for anything else."""
    content = element.content(data)
    if element.tag != OID or not 0 < len(content) <= _LONGEST_OID or content[-1] & 0x80:
        raise DerError("expected an object identifier")
    arcs, arc = [], 0
    for octet in content:
        arc = arc << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(str(number) for number in (first, arcs[0] - 40 * first, *arcs[1:]))
