"""The subject of a certificate: what the profile's template says, and what the request may add to it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cryptography import x509

from opencertd.asn1 import dn
from opencertd.errors import Refusal, RefusalKind
from opencertd.model.names import AltName, AltNameKind

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_NAME_KINDS = {kind.value: kind for kind in AltNameKind}


@dataclass(frozen=True)
class SubjectTemplate:
    """A name whose values may hold placeholders: `CN={dns},O=Example`.

    `{dns}`, `{ip}`, `{email}`, `{uri}`, `{permanent-identifier}` and `{hardware-module}` stand for the first name of
    that kind; `{CN}`, `{serialNumber}` … for that attribute of the subject that is asked.
    """

    text: str
    name: x509.Name

    def placeholders(self) -> tuple[str, ...]:
        """The words in braces, once each."""
        return tuple(dict.fromkeys(_PLACEHOLDER.findall(self.text)))

    def attributes(self) -> frozenset[x509.ObjectIdentifier]:
        """The attributes it sets."""
        return frozenset(attribute.oid for attribute in self.name)

    def asked(self) -> frozenset[x509.ObjectIdentifier]:
        """The attributes it takes from the request."""
        return frozenset(dn.ATTRIBUTES[word.upper()] for word in self.placeholders() if word not in _NAME_KINDS)

    def takes_wishes(self, oid: x509.ObjectIdentifier) -> bool:
        """Whether an attribute is not set by it alone, or holds what the subject that is asked says."""
        values = [str(attribute.value) for attribute in self.name.get_attributes_for_oid(oid)]
        words = [word for value in values for word in _PLACEHOLDER.findall(value)]
        return not values or any(word not in _NAME_KINDS for word in words)

    def kinds(self) -> frozenset[AltNameKind]:
        """The kinds of names it takes from the request."""
        return frozenset(_NAME_KINDS[word] for word in self.placeholders() if word in _NAME_KINDS)


def parse_template(text: str) -> SubjectTemplate:
    """The template. Raises ValueError in words."""
    template = SubjectTemplate(text, dn.parse_dn(text))
    for word in template.placeholders():
        if word not in _NAME_KINDS and word.upper() not in dn.ATTRIBUTES:
            raise ValueError(
                f"in the subject {text!r}: {{{word}}} stands for nothing; write {{dns}}, {{ip}}, {{email}}, {{uri}}, "
                "{permanent-identifier}, {hardware-module} or an attribute such as {CN}"
            )
    if re.search(r"[{}]", _PLACEHOLDER.sub("", text)):
        raise ValueError(f"in the subject {text!r}: a brace has no partner")
    fixed = [attribute for attribute in template.name if not _PLACEHOLDER.search(str(attribute.value))]
    dn.normal(x509.Name(fixed))
    return template


def build_subject(
    template: SubjectTemplate | None,
    allowed: Collection[x509.ObjectIdentifier],
    asked: x509.Name,
    names: tuple[AltName, ...],
    *,
    drop_others: bool,
) -> x509.Name:
    """The subject for a request. Raises Refusal REJECTED_NAME for attributes that may not be asked, or not so."""
    filled = x509.Name([]) if template is None else _filled(template, asked, names)
    fixed = _values(filled)
    used = frozenset() if template is None else template.asked()
    kept = []
    for rdn in asked.rdns:
        attributes = []
        for attribute in rdn:
            if attribute.oid in fixed:
                _check_same(attribute, fixed[attribute.oid], drop_others)
            elif attribute.oid in allowed:
                attributes.append(attribute)
            elif attribute.oid not in used and not drop_others:
                shown = attribute.rfc4514_attribute_name
                raise Refusal(RefusalKind.REJECTED_NAME, f"the subject may not have the attribute {shown}")
        if attributes:
            kept.append(x509.RelativeDistinguishedName(attributes))
    return x509.Name([*filled.rdns, *kept])


def _values(name: x509.Name) -> Mapping[x509.ObjectIdentifier, frozenset[object]]:
    """Comparable values by attribute."""
    return {
        oid: frozenset(_value(attribute) for attribute in name.get_attributes_for_oid(oid))
        for oid in {attribute.oid for attribute in name}
    }


def _value(attribute: x509.NameAttribute[str | bytes]) -> object:
    return dn.canonical(x509.Name([attribute]))


def _check_same(attribute: x509.NameAttribute[str | bytes], fixed: frozenset[object], drop_others: bool) -> None:
    if not drop_others and _value(attribute) not in fixed:
        raise Refusal(
            RefusalKind.REJECTED_NAME,
            f"the profile sets {attribute.rfc4514_attribute_name} in the subject; another value cannot be asked",
        )


def _filled(template: SubjectTemplate, asked: x509.Name, names: tuple[AltName, ...]) -> x509.Name:
    def fill(match: re.Match[str]) -> str:
        word = match[1]
        if word in _NAME_KINDS:
            found = [name.value for name in names if name.kind is _NAME_KINDS[word]]
        else:
            found = [str(one.value) for one in asked.get_attributes_for_oid(dn.ATTRIBUTES[word.upper()])]
        if not found:
            raise Refusal(RefusalKind.REJECTED_NAME, f"the profile makes the subject from {word}, which is not asked")
        return found[0]

    try:
        return x509.Name(
            x509.RelativeDistinguishedName(x509.NameAttribute(a.oid, _PLACEHOLDER.sub(fill, str(a.value))) for a in rdn)
            for rdn in template.name.rdns
        )
    except ValueError as error:
        raise Refusal(RefusalKind.REJECTED_NAME, f"the profile cannot make a subject of this: {error}") from None
