"""Names a certificate may bear, in one normal form: lower-case A-label DNS names, compressed IP addresses.

Sources: RFC 5280 §4.2.1.6 (subjectAltName), RFC 1123 §2.1 and RFC 5890 (host names), RFC 8555 §7.1.4 (wildcards).
"""

from __future__ import annotations

import enum
import ipaddress
import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import idna

from opencertd.errors import Refusal, RefusalKind
from opencertd.model.devices import parse_device_name

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)\Z")
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_ABSOLUTE_URI = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*:(?://(?:[^/?#@\[\]]*@)?\[[0-9A-Fa-f:.]+\](?=[:/?#]|\Z))?"
    r"(?:[A-Za-z0-9._~:/?#@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*\Z"
)
_LOOKS_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)\Z")
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


class AltNameKind(enum.Enum):
    """Kinds of subjectAltName; the value is the word used in answers and in the store."""

    DNS = "dns"
    IP = "ip"
    EMAIL = "email"
    URI = "uri"
    PERMANENT_IDENTIFIER = "permanent-identifier"
    HARDWARE_MODULE = "hardware-module"


DEVICE_KINDS = frozenset({AltNameKind.PERMANENT_IDENTIFIER, AltNameKind.HARDWARE_MODULE})
"""What a device's maker calls it: otherNames of RFC 4043 and RFC 4108."""


@dataclass(frozen=True)
class AltName:
    """One name in normal form. Build DNS names by `parse_dns_name`, addresses by `parse_ip_address`."""

    kind: AltNameKind
    value: str

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.value}"


def lower_ascii(text: str) -> str:
    """`text` with A to Z in lower case and all else as it is: `str.lower` makes a plain k of the Kelvin sign."""
    return text.translate(_LOWER)


def parse_dns_name(text: str, *, wildcard: bool = True) -> AltName:
    """`text` as a DNS name: lower case, no trailing dot, at most 253 octets, LDH labels, at most one leading `*.`.

    Raises `Refusal` (MALFORMED) in words that name the fault. An IP address is no DNS name; nor is anything whose
    last label is a number, since resolvers read such names as addresses (`0x7f.0.0.1`).
    """
    name = lower_ascii(text).removesuffix(".")
    base = name
    if wildcard and name.startswith("*."):
        base = name[2:]
    check_dns_labels(text, base)
    return AltName(AltNameKind.DNS, name)


def check_dns_labels(text: str, base: str) -> None:
    """Raise a Refusal unless `base` (normal form of what was written as `text`) is a host name."""

    def refuse(why: str) -> Refusal:
        return Refusal(RefusalKind.MALFORMED, f"{text[:260]!r} is not a DNS name: {why}")

    try:
        ipaddress.ip_address(base.strip("[]"))
    except ValueError:
        pass
    else:
        raise refuse("it is an IP address")
    if not base:
        raise refuse("it is empty")
    if len(base) > 253:
        raise refuse("it is longer than 253 octets")
    labels = base.split(".")
    for label in labels:
        if not label:
            raise refuse("a label is empty")
        if "*" in label:
            raise refuse("a wildcard may only be the whole first label")
        if len(label) > 63:
            raise refuse("a label is longer than 63 octets")
        if not _LABEL.match(label):
            raise refuse(f"the label {label!r} has characters or hyphens where none may be")
        _check_a_label(label, refuse)
    if _LOOKS_NUMERIC.match(labels[-1]):
        raise refuse("its last label is a number")


def _check_a_label(label: str, refuse: Callable[[str], Refusal]) -> None:
    """RFC 5890 §2.3.1: hyphens in the third and fourth place are kept for A-labels, which must be valid (IDNA 2008)."""
    if label[2:4] != "--":
        return
    if not label.startswith("xn--"):
        raise refuse(f"the label {label!r} has hyphens in its third and fourth place")
    try:
        idna.ulabel(label)
    except idna.IDNAError:
        raise refuse(f"the label {label!r} is not a valid A-label") from None


def parse_ip_address(text: str) -> AltName:
    """`text` as an IPv4 or IPv6 address in its canonical spelling (RFC 5952). Raises MALFORMED."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise Refusal(RefusalKind.MALFORMED, f"{text[:80]!r} is not an IP address") from None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        raise Refusal(RefusalKind.MALFORMED, f"{text[:80]!r} has a zone, which no certificate can bear")
    return AltName(AltNameKind.IP, str(address))


def parse_email(text: str) -> AltName:
    """`text` as a mailbox of RFC 5280 §4.2.1.6: `local@domain`, domain in lower case. Raises MALFORMED.

    The local part is a Dot-string (RFC 5321 §4.1.2): clients read quoted ones, and comments, in ways of their own.
    """
    local, _, domain = text.rpartition("@")
    if not _LOCAL_PART.match(local) or len(local) > 64:
        raise Refusal(RefusalKind.MALFORMED, f"{text[:260]!r} is not an e-mail address")
    check_dns_labels(text, domain.lower())
    return AltName(AltNameKind.EMAIL, f"{local}@{domain.lower()}")


def parse_uri(text: str) -> AltName:
    """`text` as an absolute URI (RFC 3986 §4.3, by shape and characters only). Raises MALFORMED."""
    if not _ABSOLUTE_URI.match(text) or text.endswith(":") or len(text) > 2048 or not _has_authority(text):
        raise Refusal(RefusalKind.MALFORMED, f"{text[:260]!r} is not an absolute URI")
    return AltName(AltNameKind.URI, text)


def _has_authority(text: str) -> bool:
    """Whether host and port, where the URI should have them, are some."""
    try:
        parts = urlsplit(text)
        return parts.port is None or bool(parts.hostname)
    except ValueError:
        return False


def parse_permanent_identifier(text: str) -> AltName:
    """`SERIAL`, or `SERIAL/1.2.3.4` with the OID of who assigned it. Raises MALFORMED."""
    return _device(AltNameKind.PERMANENT_IDENTIFIER, text)


def parse_hardware_module(text: str) -> AltName:
    """`SERIAL/1.2.3.4` with the OID of the type of hardware. Raises MALFORMED."""
    return _device(AltNameKind.HARDWARE_MODULE, text)


def _device(kind: AltNameKind, text: str) -> AltName:
    try:
        name = parse_device_name(text, oid_needed=kind is AltNameKind.HARDWARE_MODULE)
    except ValueError as error:
        raise Refusal(RefusalKind.MALFORMED, f"{text[:260]!r} is not a {kind.value}: {error}") from None
    return AltName(kind, str(name))


def could_be_address(text: str) -> bool:
    """Whether clients could take a text for a host, an address, a mailbox or a URI, wherever they find it."""
    folded = lower_ascii(" ".join(text.split()))
    for parse in (parse_ip_address, parse_email, parse_uri, *((parse_dns_name,) if "." in folded else ())):
        try:
            parse(folded)
        except Refusal:
            continue
        return True
    return False


def parse_alt_name(kind: AltNameKind, text: str) -> AltName:
    """`text` as a name of `kind` in normal form. Raises MALFORMED."""
    parse = {
        AltNameKind.DNS: parse_dns_name,
        AltNameKind.IP: parse_ip_address,
        AltNameKind.EMAIL: parse_email,
        AltNameKind.URI: parse_uri,
        AltNameKind.PERMANENT_IDENTIFIER: parse_permanent_identifier,
        AltNameKind.HARDWARE_MODULE: parse_hardware_module,
    }[kind]
    return parse(text)
