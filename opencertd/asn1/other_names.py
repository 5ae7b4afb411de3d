"""The otherNames of devices, bytes and values: PermanentIdentifier (RFC 4043) and HardwareModuleName (RFC 4108)."""

from __future__ import annotations

from cryptography import x509

from opencertd.asn1 import der
from opencertd.errors import Refusal
from opencertd.model.devices import DeviceName, parse_device_name
from opencertd.model.names import AltName, AltNameKind, parse_alt_name

PERMANENT_IDENTIFIER = "1.3.6.1.5.5.7.8.3"  # id-on-permanentIdentifier
HARDWARE_MODULE = "1.3.6.1.5.5.7.8.4"  # id-on-hardwareModuleName

KINDS = {
    PERMANENT_IDENTIFIER: AltNameKind.PERMANENT_IDENTIFIER,
    HARDWARE_MODULE: AltNameKind.HARDWARE_MODULE,
}
"""Kinds of device names by their type-id."""

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


def encode_other_name(name: AltName) -> tuple[str, bytes]:
    """Type-id and value of a device name (RFC 5280 §4.2.1.6)."""
    hardware = name.kind is AltNameKind.HARDWARE_MODULE
    device = parse_device_name(name.value, oid_needed=hardware)
    if hardware:
        return HARDWARE_MODULE, encode_hardware_module(device)
    return PERMANENT_IDENTIFIER, encode_permanent_identifier(device)


def parse_other_name(type_id: str, value: bytes) -> AltName | None:
    """A device name; None when it is a name of another type, or one that cannot be spelled as an ACME identifier."""
    try:
        if type_id == PERMANENT_IDENTIFIER:
            device = parse_permanent_identifier(value)
        elif type_id == HARDWARE_MODULE:
            device = parse_hardware_module(value)
        else:
            return None
        if device is None:
            return None
        name = parse_alt_name(KINDS[type_id], str(device))
    except (der.DerError, Refusal):
        return None
    # A serial number with a slash in it would read as one with an OID after it.
    return name if parse_device_name(name.value, oid_needed=False) == device else None


def general_name(name: AltName) -> x509.OtherName:
    """The device name as it stands in subjectAltName."""
    type_id, value = encode_other_name(name)
    return x509.OtherName(x509.ObjectIdentifier(type_id), value)


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
