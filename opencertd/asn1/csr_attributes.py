"""What an EST server wants in a request: CsrAttrs, written and read (RFC 7030 §4.5.2, RFC 9908 §3).

Two forms of the same wish. The old one is a row of OIDs and attributes; the template of RFC 9908 §3.4 is a request
with holes in it, and a client that knows templates looks at nothing else (§4).
"""

from __future__ import annotations

from dataclasses import dataclass

from opencertd.asn1 import der

CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7"  # noqa: S105  (an OID)
EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
TEMPLATE = "1.2.840.113549.1.9.16.2.61"
EXTENSION_TEMPLATE = "1.2.840.113549.1.9.16.2.62"
RSA = "1.2.840.113549.1.1.1"
EC = "1.2.840.10045.2.1"

_MOST = 100
_KEY_FIELD = 0xA0
_ATTRIBUTES_FIELD = 0xA1


@dataclass(frozen=True)
class WantedKey:
    """A key's algorithm, with its curve (an OID) or, for RSA, its size in bits."""

    algorithm: str
    curve: str | None = None
    bits: int | None = None


@dataclass(frozen=True)
class WantedExtension:
    """An extension. `value`: the content of its extnValue; None is for the client to fill in."""

    oid: str
    value: bytes | None = None
    critical: bool = False


@dataclass(frozen=True)
class CsrAttributes:
    """`others`: OIDs that are named and mean nothing to us."""

    challenge_password: bool = False
    key: WantedKey | None = None
    extensions: tuple[WantedExtension, ...] = ()
    others: tuple[str, ...] = ()


def encode_csr_attributes(wanted: CsrAttributes) -> bytes | None:
    """CsrAttrs in DER; None when nothing is wanted, since an empty SEQUENCE makes libest's client loop for ever.

    Extensions go into a template. With a challenge password there is none: its value is made from the TLS session, a
    template has no hole for that, and a client that finds a template no longer sees the OID that asks for it.
    """
    items = []
    if wanted.challenge_password:
        items.append(der.oid(CHALLENGE_PASSWORD))
    if wanted.key is not None:
        items.append(_attribute(wanted.key.algorithm, *_parameters(wanted.key)))
    if not wanted.challenge_password and (wanted.key or wanted.extensions):
        items.append(_attribute(TEMPLATE, _template(wanted)))
    return der.sequence(*items) if items else None


def _attribute(oid: str, *values: bytes) -> bytes:
    return der.sequence(der.oid(oid), der.tlv(der.SET, b"".join(sorted(values))))


def _parameters(key: WantedKey) -> tuple[bytes, ...]:
    """The values of a key's attribute (RFC 9908 §3.2)."""
    if key.curve is not None:
        return (der.oid(key.curve),)
    return () if key.bits is None else (der.integer(key.bits),)


def _template(wanted: CsrAttributes) -> bytes:
    parts = [der.integer(0)]
    if wanted.key is not None:
        parts.append(der.tlv(_KEY_FIELD, _key_template(wanted.key)))
    return der.sequence(*parts, der.tlv(_ATTRIBUTES_FIELD, _extension_attribute(wanted.extensions)))


def _key_template(key: WantedKey) -> bytes:
    if key.algorithm != RSA:
        return der.sequence(der.oid(key.algorithm), *([der.oid(key.curve)] if key.curve else []))
    algorithm = der.sequence(der.oid(RSA), der.null())
    if key.bits is None:
        return algorithm
    placeholder = der.sequence(der.integer((1 << key.bits) - 1), der.integer(65537))  # only its length counts
    return algorithm + der.bit_string(placeholder)


def _extension_attribute(extensions: tuple[WantedExtension, ...]) -> bytes:
    """One attribute: extensionRequest when every value is given, else the one that may have holes (RFC 9908 §3.4)."""
    if not extensions:
        return b""
    whole = all(extension.value is not None for extension in extensions)
    encoded = der.sequence(*(_extension(extension) for extension in extensions))
    return _attribute(EXTENSION_REQUEST if whole else EXTENSION_TEMPLATE, encoded)


def _extension(extension: WantedExtension) -> bytes:
    parts = [der.oid(extension.oid)]
    if extension.critical:
        parts.append(der.boolean(True))
    if extension.value is not None:
        parts.append(der.octet_string(extension.value))
    return der.sequence(*parts)


def decode_csr_attributes(data: bytes) -> CsrAttributes:
    """What the server wants, from its template when there is one. Raises ValueError for what is no CsrAttrs."""
    found = der.children(data, der.read_only(data, der.SEQUENCE))
    if len(found) > _MOST:
        raise der.DerError("too many attributes")
    reader = _Reader(data)
    for element in found:
        reader.read(element)
    return reader.template or reader.wanted


class _Reader:
    """Gathers what single elements want; what it does not know it only names (RFC 7030 §4.5.2)."""

    def __init__(self, data: bytes, *, inside: bool = False) -> None:
        self._data = data
        self._inside = inside  # a template, in which there is no other
        self._password = False
        self._key: WantedKey | None = None
        self._extensions: tuple[WantedExtension, ...] = ()
        self._others: list[str] = []
        self.template: CsrAttributes | None = None

    @property
    def wanted(self) -> CsrAttributes:
        return CsrAttributes(self._password, self._key, self._extensions, tuple(self._others))

    def read(self, element: der.Element) -> None:
        """One AttrOrOID."""
        if element.tag == der.OID:
            self._named(der.read_oid(self._data, element), ())
            return
        if element.tag != der.SEQUENCE:
            raise der.DerError("neither an OID nor an attribute")
        parts = der.children(self._data, element)
        if len(parts) != 2 or parts[1].tag != der.SET:
            raise der.DerError("an attribute is an OID and a SET")
        self._named(der.read_oid(self._data, parts[0]), der.children(self._data, parts[1]))

    def _named(self, oid: str, values: tuple[der.Element, ...]) -> None:
        if oid == CHALLENGE_PASSWORD:
            self._password = True
        elif oid in {EXTENSION_REQUEST, EXTENSION_TEMPLATE} and values:
            self._extensions = tuple(self._extension(one) for one in der.children(self._data, values[0]))
        elif oid == RSA and values:
            self._key = WantedKey(RSA, bits=self._bits(values[0]))
        elif oid == EC and values:
            self._key = WantedKey(EC, curve=der.read_oid(self._data, values[0]))
        elif oid in {RSA, EC}:
            self._key = WantedKey(oid)
        elif oid == TEMPLATE and values and not self._inside:
            self.template = self._template(values[0])
        else:
            self._others.append(oid)

    def _template(self, element: der.Element) -> CsrAttributes:
        inner = _Reader(self._data, inside=True)
        for part in der.children(self._data, element):
            if part.tag == _KEY_FIELD:
                inner._key = self._key_of(part)
            elif part.tag == _ATTRIBUTES_FIELD:
                for attribute in der.children(self._data, part):
                    inner.read(attribute)
        return inner.wanted

    def _key_of(self, field: der.Element) -> WantedKey:
        algorithm, *public = der.children(self._data, field)
        oid, *parameters = der.children(self._data, algorithm)
        name = der.read_oid(self._data, oid)
        curve = der.read_oid(self._data, parameters[0]) if name == EC and parameters else None
        return WantedKey(name, curve, self._placeholder_bits(public[0]) if name == RSA and public else None)

    def _bits(self, element: der.Element) -> int:
        content = element.content(self._data)
        if element.tag != der.INTEGER or len(content) > 4:
            raise der.DerError("not the size of a key")
        return int.from_bytes(content, "big")

    def _placeholder_bits(self, public: der.Element) -> int:
        key = der.read_tlv(self._data, public.content_start + 1, public.end)
        modulus, *_ = der.children(self._data, key)
        return int.from_bytes(modulus.content(self._data), "big").bit_length()

    def _extension(self, element: der.Element) -> WantedExtension:
        oid, *rest = der.children(self._data, element)
        values = [one.content(self._data) for one in rest if one.tag == der.OCTET_STRING]
        critical = any(one.content(self._data) == b"\xff" for one in rest if one.tag == 0x01)
        return WantedExtension(der.read_oid(self._data, oid), values[0] if values else None, critical)
