"""Devices by what their makers call them: permanent identifiers and hardware modules (RFC 4043, RFC 4108).

Spelled as draft-ietf-acme-device-attest-10 §3.1 and §4.1 have it: `SERIAL`, `SERIAL/1.2.3.4` with the OID of who
assigned it, and `SERIAL/1.2.3.4` with the OID of the type of hardware. Compared octet for octet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_COMPONENT = r"(?:0|[1-9][0-9]*)"
_OID = re.compile(rf"(?:[01]\.(?:[1-3]?[0-9])|2\.{_COMPONENT})(?:\.{_COMPONENT})*\Z")
MOST = 200


@dataclass(frozen=True)
class DeviceName:
    """`serial` as its maker spells it; `oid`: who assigned it, or the type of hardware."""

    serial: str
    oid: str | None = None

    def __str__(self) -> str:
        return self.serial if self.oid is None else f"{self.serial}/{self.oid}"


def parse_device_name(text: str, *, oid_needed: bool) -> DeviceName:
    """Raises ValueError in words."""
    serial, slash, oid = text.partition("/")
    if not serial or len(text) > MOST or not serial.isprintable():
        raise ValueError(f"its serial number is empty, longer than {MOST} characters, or cannot be seen")
    if serial.startswith("*."):
        raise ValueError("it would be taken for a wildcard")
    if not slash:
        if oid_needed:
            raise ValueError("it has no OID: write SERIAL/1.2.3.4")
        return DeviceName(serial)
    if not _OID.match(oid):
        raise ValueError("what follows the / is no OID")
    return DeviceName(serial, oid)
