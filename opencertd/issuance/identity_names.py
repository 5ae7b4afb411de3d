"""Which names a device may have, by what its manufacturer's certificate says of it.

A rule is a kind of name and a pattern with fields of that certificate (an IDevID of IEEE 802.1AR, RFC 7030 §3.3.2):
`dns:{serialNumber}.devices.example.com`. A manufacturer chooses the values: where the pattern has text around them,
none can end a label, begin a domain or be a wildcard.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cryptography import x509

from opencertd.asn1 import dn
from opencertd.asn1.pkcs10 import known_names_of_certificate
from opencertd.errors import Refusal
from opencertd.model.devices import parse_device_name
from opencertd.model.names import (
    AltName,
    AltNameKind,
    lower_ascii,
    parse_alt_name,
    parse_dns_name,
    parse_email,
    parse_ip_address,
)
from opencertd.model.requester import NameGrant

COMMON_NAME = "common-name"
HARDWARE_SERIAL = "hardware-serial"
_KINDS = {kind.value: kind for kind in AltNameKind}
_FIELDS = frozenset((*_KINDS, HARDWARE_SERIAL))
_FIELD = re.compile(r"\{([^{}]*)\}")
_IN_TEXT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?\Z")
MOST_FIELD = 200


@dataclass(frozen=True)
class NameRule:
    """One rule. `kind` None: a value of the subject that tells devices apart (CN, serialNumber, UID)."""

    kind: AltNameKind | None
    pattern: str

    def apply(self, fields: Mapping[str, str]) -> AltName | str | None:
        """The name, or the value of the subject; None when the certificate does not say what the rule asks for."""
        alone = _FIELD.fullmatch(self.pattern) is not None
        values = {word: fields.get(word, "") for word in _FIELD.findall(self.pattern)}
        if not all(values.values()) or not (alone or all(map(_IN_TEXT.match, values.values()))):
            return None
        text = _FIELD.sub(lambda match: values[match[1]], self.pattern)
        if self.kind is None:
            seen = text.isprintable() and text.strip() == text
            return lower_ascii(text) if seen and not (alone and _could_be_host(text)) else None
        try:
            name = parse_alt_name(self.kind, text)
        except Refusal:
            return None
        return None if name.value.startswith("*.") else name


def _could_be_host(text: str) -> bool:
    """Whether clients could take a value of the subject for a host or a mailbox, which no manufacturer gives out."""
    parsers = (parse_ip_address, parse_email, *((parse_dns_name,) if "." in text else ()))
    for parse in parsers:
        with contextlib.suppress(Refusal):
            parse(text)
            return True
    return False


def parse_name_rule(text: str) -> NameRule:
    """A rule as settings have it. Raises ValueError in words."""
    kind, colon, pattern = text.partition(":")
    if not colon or (kind != COMMON_NAME and kind not in _KINDS):
        raise ValueError(f"{text!r} must begin with one of {', '.join((COMMON_NAME, *_KINDS))} and a colon")
    words = _FIELD.findall(pattern)
    if not words or re.search(r"[{}]", _FIELD.sub("", pattern)):
        raise ValueError(f"{text!r} must have a field of the certificate in braces, such as {{serialNumber}}")
    between = _FIELD.split(pattern)[2:-1:2]
    if not all(re.search(r"[^A-Za-z0-9_-]", piece) for piece in between):
        raise ValueError(f"in {text!r}, put a dot or the like between two fields, or several devices have one name")
    fields = []
    for word in words:
        known = word if word in _FIELDS else word.upper()
        if known not in _FIELDS and known not in dn.ATTRIBUTES:
            raise ValueError(
                f"in {text!r}, {{{word}}} stands for nothing: write an attribute of the subject such as "
                f"{{serialNumber}}, or one of {', '.join(f'{{{field}}}' for field in sorted(_FIELDS))}"
            )
        fields.append(known)
    words_left = iter(fields)
    return NameRule(_KINDS.get(kind), _FIELD.sub(lambda _: f"{{{next(words_left)}}}", pattern))


def grant_for(certificate: x509.Certificate, rules: Iterable[NameRule]) -> NameGrant:
    """What the rules make of a manufacturer's certificate. Raises ValueError when that cannot be read."""
    fields = fields_of(certificate)
    made = [rule.apply(fields) for rule in rules]
    return NameGrant(
        names=frozenset(name for name in made if isinstance(name, AltName)),
        common_names=frozenset(value for value in made if isinstance(value, str)),
    )


def subject_of(certificate: x509.Certificate) -> x509.Name:
    """The subject, without warnings about attributes too long or short: the log is not the device's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return certificate.subject


def fields_of(certificate: x509.Certificate) -> dict[str, str]:
    """Subject attributes and alternative names by field, without what stands there twice: nobody could say which.

    Raises ValueError.
    """
    found: list[tuple[str, str]] = []
    for attribute in subject_of(certificate):
        if isinstance(attribute.value, str):
            found += [(word, attribute.value) for word, oid in dn.ATTRIBUTES.items() if oid == attribute.oid]
    for name in known_names_of_certificate(certificate):
        found.append((name.kind.value, name.value))
        if name.kind is AltNameKind.HARDWARE_MODULE:
            found.append((HARDWARE_SERIAL, parse_device_name(name.value, oid_needed=True).serial))
    counted = [word for word, _ in found]
    return {word: value for word, value in found if counted.count(word) == 1 and len(value) <= MOST_FIELD}
