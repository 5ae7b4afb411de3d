"""The otherNames of devices, bytes and values: PermanentIdentifier (RFC 4043) and HardwareModuleName (RFC 4108)."""

from __future__ import annotations

from opencertd.asn1 import der
from opencertd.model.devices import DeviceName

PERMANENT_IDENTIFIER = "1.3.6.1.5.5.7.8.3"  # id-on-permanentIdentifier
HARDWARE_MODULE = "1.3.6.1.5.5.7.8.4"  # id-on-hardwareModuleName

_SEQUENCE, _OID, _OCTETS, _UTF8 = 0x30, 0x06, 0x04, 0x0C


def encode_permanent_identifier(name: DeviceName) -> bytes:
    """PermanentIdentifier: the identifier, and its assigner if it is known (RFC 4043 §2)."""
    assigner = b"" if name.oid is None else der.oid(name.oid)
    return der.sequence(der.tlv(_UTF8, name.serial.encode()), assigner)


def encode_hardware_module(name: DeviceName) -> bytes:
    """HardwareModuleName: the type, then the serial number as octets (RFC 4108 §5). Its `oid` is needed."""
    return der.sequence(der.oid(name.oid or ""), der.octet_string(name.serial.encode()))


def parse_permanent_identifier(data: bytes) -> DeviceName | None:
    """None when it names no identifier, which RFC 4043 allows. Raises `DerError` when it is none."""
    parts = [(part.tag, part.content(data)) for part in der.children(data, der.read_only(data, _SEQUENCE))]
    tags = [tag for tag, _ in parts]
    if tags not in ([], [_OID], [_UTF8], [_UTF8, _OID]):
        raise der.DerError("it is no PermanentIdentifier")
    if _UTF8 not in tags:
        return None
    oid = _dotted(parts[1][1]) if len(parts) == 2 else None
    return DeviceName(_text(parts[0][1]), oid)


def parse_hardware_module(data: bytes) -> DeviceName:
    """Raises `DerError`, also for serial numbers that are no text: what ACME calls modules by is (draft §4)."""
    parts = [(part.tag, part.content(data)) for part in der.children(data, der.read_only(data, _SEQUENCE))]
    if [tag for tag, _ in parts] != [_OID, _OCTETS]:
        raise der.DerError("it is no HardwareModuleName")
    return DeviceName(_text(parts[1][1]), _dotted(parts[0][1]))


def _text(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise der.DerError("a name is not UTF-8") from None


def _dotted(octets: bytes) -> str:
    """An OBJECT IDENTIFIER's content in numbers and dots (X.690 §8.19)."""
    numbers: list[int] = []
    number, begun = 0, False
    for octet in octets:
        if not begun and octet == 0x80:
            raise der.DerError("an OID is not as short as it could be")
        begun = bool(octet & 0x80)
        number = number << 7 | octet & 0x7F
        if not begun:
            numbers.append(number)
            number = 0
    if begun or not numbers:
        raise der.DerError("an OID ends too soon")
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))
