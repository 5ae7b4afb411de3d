"""Distinguished names as people write them (RFC 4514), and the form in which two names are compared."""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import TypeAlias

from cryptography import x509
from cryptography.x509.oid import NameOID

ATTRIBUTES = {
    "CN": NameOID.COMMON_NAME,
    "C": NameOID.COUNTRY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "L": NameOID.LOCALITY_NAME,
    "STREET": NameOID.STREET_ADDRESS,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "DC": NameOID.DOMAIN_COMPONENT,
    "UID": NameOID.USER_ID,
    "SERIALNUMBER": NameOID.SERIAL_NUMBER,
    "EMAIL": NameOID.EMAIL_ADDRESS,
    "EMAILADDRESS": NameOID.EMAIL_ADDRESS,
    "GN": NameOID.GIVEN_NAME,
    "SN": NameOID.SURNAME,
    "TITLE": NameOID.TITLE,
}
"""Attribute types by the keyword people write, in upper case."""


def parse_dn(text: str) -> x509.Name:
    """`CN=My CA,O=Example,C=DE` as a name: as RFC 4514 §2.1 says, what is written last is encoded first.

    `\\` escapes, `+` joins a multi-valued RDN. Raises ValueError in words a person understands.
    """
    if not text.strip():
        raise ValueError("the name is empty")
    rdns = []
    for part in _split(text, ","):
        attributes = [_attribute(piece, text) for piece in _split(part, "+")]
        try:
            rdns.append(x509.RelativeDistinguishedName(attributes))
        except ValueError as error:
            raise ValueError(f"in the name {text!r}: {error}") from None
    return x509.Name(reversed(rdns))


def _attribute(piece: str, text: str) -> x509.NameAttribute[str]:
    keyword, equals, value = piece.partition("=")
    keyword = keyword.strip()
    value = _unescape(value)
    if not equals or not keyword:
        raise ValueError(f"in the name {text!r}: {piece.strip()!r} is not KEYWORD=value")
    oid = ATTRIBUTES.get(keyword.upper())
    if oid is None:
        try:
            oid = x509.ObjectIdentifier(keyword)
        except ValueError:
            raise ValueError(f"in the name {text!r}: {keyword!r} is not a known attribute") from None
    if not value:
        raise ValueError(f"in the name {text!r}: {keyword} has no value")
    try:
        if oid == NameOID.COUNTRY_NAME:
            value = value.upper()
        return x509.NameAttribute(oid, value)
    except ValueError as error:
        raise ValueError(f"in the name {text!r}: {keyword}: {error}") from None


def _split(text: str, separator: str) -> list[str]:
    """Split at `separator` where no backslash stands before it."""
    parts = [""]
    escaped = False
    for character in text:
        if character == separator and not escaped:
            parts.append("")
            continue
        parts[-1] += character
        escaped = character == "\\" and not escaped
    return parts


_SPACES = " \t\r\n"
_ESCAPE = re.compile(r"((?:\\[0-9a-fA-F]{2})+)|\\(.)", re.DOTALL)


def _unescape(value: str) -> str:
    """RFC 4514 §2.4: `\\,` is a character, `\\C4\\8D` are octets of UTF-8; spaces around that are not escaped go."""
    bare = value.lstrip(_SPACES)
    end = len(bare.rstrip(_SPACES))
    if end < len(bare) and (end - len(bare[:end].rstrip("\\"))) % 2:
        end += 1  # the last space is escaped
    return _ESCAPE.sub(_escaped, bare[:end])


def _escaped(match: re.Match[str]) -> str:
    if match[1] is None:
        return match[2]
    return bytes.fromhex(match[1].replace("\\", "")).decode("utf-8")


def format_dn(name: x509.Name) -> str:
    """The name as RFC 4514 writes it, so that `parse_dn` reads it back: `CN=My CA,O=Example`."""
    return name.rfc4514_string()


CanonicalName: TypeAlias = tuple[frozenset[tuple[str, str]], ...]


@functools.lru_cache(maxsize=1024)  # the rules of several levels look at one subject
def canonical(name: x509.Name) -> CanonicalName:
    """A form in which equal names are equal (RFC 5280 §7.1): case, white space and string type do not count."""
    return tuple(
        frozenset((attribute.oid.dotted_string, _fold(attribute.value)) for attribute in rdn) for rdn in name.rdns
    )


def _fold(value: str | bytes) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return " ".join(unicodedata.normalize("NFKC", value).casefold().split())


_PRINTABLE = re.compile(r"[A-Za-z0-9 '()+,./:=?-]+\Z")
_PRINTABLE_ONLY = frozenset(
    {NameOID.COUNTRY_NAME, NameOID.JURISDICTION_COUNTRY_NAME, NameOID.SERIAL_NUMBER, NameOID.DN_QUALIFIER}
)
_DOMAIN = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\Z")
_MOST = {
    # RFC 5280 appendix A.1; STREET and postalCode by X.520, UID by RFC 4524 §2.
    NameOID.POSTAL_CODE: 40,
    NameOID.COMMON_NAME: 64,
    NameOID.SERIAL_NUMBER: 64,
    NameOID.ORGANIZATION_NAME: 64,
    NameOID.ORGANIZATIONAL_UNIT_NAME: 64,
    NameOID.TITLE: 64,
    NameOID.STATE_OR_PROVINCE_NAME: 128,
    NameOID.LOCALITY_NAME: 128,
    NameOID.PSEUDONYM: 128,
    NameOID.STREET_ADDRESS: 128,
    NameOID.EMAIL_ADDRESS: 255,
    NameOID.USER_ID: 256,
}
"""Characters that a value may have, where it is not 32,768 (`ub-name`)."""


def normal(name: x509.Name) -> x509.Name:
    """The name with the string types of RFC 5280 §4.1.2.4, whatever a request used: PrintableString or IA5String
    where the attribute's definition demands it, UTF8String otherwise. Raises ValueError for values that do not fit.
    """
    return x509.Name(x509.RelativeDistinguishedName(_normal(attribute) for attribute in rdn) for rdn in name.rdns)


def _normal(attribute: x509.NameAttribute[str | bytes]) -> x509.NameAttribute[str]:
    """`cryptography` makes a value that does not fit its type into bytes which nobody can read."""
    oid, value, shown = attribute.oid, attribute.value, attribute.rfc4514_attribute_name
    if not isinstance(value, str):
        raise ValueError(f"{shown} is not text")  # noqa: TRY004  (a value of a name, like those below)
    if oid in _PRINTABLE_ONLY and not _PRINTABLE.match(value):
        raise ValueError(f"{shown} may have letters and digits of ASCII, spaces and '()+,-./:=? only")
    if oid == NameOID.DOMAIN_COMPONENT and not _DOMAIN.match(value):  # RFC 4519 §2.4
        raise ValueError(f"{shown} is a label of a host name, which {value[:80]!r} is not")
    if oid == NameOID.EMAIL_ADDRESS and not value.isascii():
        raise ValueError(f"{shown} may have characters of ASCII only")
    if len(value) > (most := _MOST.get(oid, 32768)):
        raise ValueError(f"{shown} has {len(value)} characters; {most} is the most")
    return x509.NameAttribute(oid, value)
