"""The plainest questions and answers of DNS as bytes (RFC 1035 §4): one question, and the records that answer it.

An answer that is anything else, as an alias or an error is, is not for here but for dnspython, which knows all of DNS
and takes twenty times as long.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
from dns.flags import AD, DO, QR, RD, TC
from dns.message import DEFAULT_EDNS_PAYLOAD

_HEADER = struct.Struct("!HHHHHH")
_KIND = struct.Struct("!HH")
_RECORD = struct.Struct("!HHHIH")  # name, type, class, TTL, length
_THE_NAME_ASKED = 0xC000 | _HEADER.size  # a pointer to it, as servers write it (§4.1.4)
_CODES = 0x780F  # opcode and rcode
_OPT = b"\0" + struct.pack("!HHIH", dns.rdatatype.OPT, DEFAULT_EDNS_PAYLOAD, DO, 0)  # RFC 6891 §6.1.2


@dataclass(frozen=True)
class Plain:
    """An answer without error or alias: its flags, and its records, of which there may be none."""

    flags: int
    records: tuple[dns.rdata.Rdata, ...]


def encode_question(number: int, name: dns.name.Name, kind: dns.rdatatype.RdataType, *, dnssec: bool) -> bytes:
    """A question for a recursive server. `number`: 16 random bits. `dnssec`: also whether the answer is validated."""
    asked = name.to_wire() or b""
    header = _HEADER.pack(number, RD | AD if dnssec else RD, 1, 0, 0, int(dnssec))
    return header + asked + _KIND.pack(kind, dns.rdataclass.IN) + (_OPT if dnssec else b"")


def read_plain(question: bytes, datagram: bytes) -> Plain | None:
    """What the datagram answers to this very question if it is plain, else None. Of other sections nothing is read."""
    try:
        _, flags, questions, count, _, _ = _HEADER.unpack_from(datagram)
        end = question.index(b"\0", _HEADER.size) + 1 + _KIND.size
        same = datagram[:2] == question[:2] and datagram[_HEADER.size : end] == question[_HEADER.size : end]
        if not same or questions != 1 or not flags & QR or flags & (TC | _CODES):
            return None
        asked = _KIND.unpack_from(question, end - _KIND.size)
        records = []
        for _ in range(count):
            name, kind, rdclass, _, length = _RECORD.unpack_from(datagram, end)
            end += _RECORD.size + length
            if name != _THE_NAME_ASKED or (kind, rdclass) != asked or end > len(datagram):
                return None
            records.append(dns.rdata.from_wire(rdclass, kind, datagram, end - length, length))
    except (struct.error, ValueError, dns.exception.DNSException):
        return None
    return Plain(flags, tuple(dict.fromkeys(records)))
