"""Which names a CA may certify, by the nameConstraints in its chain (RFC 5280 §4.2.1.10): kept before signing.

Clients refuse what breaks them, each a little differently; so the strictest reading counts. As OpenSSL does, a common
name that looks like a host counts as one where there is no dNSName, and the root's own constraints count too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from opencertd.asn1 import dn
from opencertd.asn1.other_names import KINDS
from opencertd.errors import Refusal, RefusalKind, RefusedName
from opencertd.model.names import DEVICE_KINDS, AltName, AltNameKind, lower_ascii, parse_dns_name

_KINDS: dict[type[x509.GeneralName], str] = {
    x509.DNSName: "dns",
    x509.IPAddress: "ip",
    x509.RFC822Name: "email",
    x509.UniformResourceIdentifier: "uri",
    x509.DirectoryName: "dir",
}
_DEVICE_KINDS = frozenset(kind.value for kind in DEVICE_KINDS)


@dataclass(frozen=True)
class Subtree:
    """One permitted or excluded subtree: `kind` is dns, ip, email, uri or dir, `base` as `cryptography` has it."""

    kind: str
    base: Any

    def __str__(self) -> str:
        shown = dn.format_dn(self.base) if isinstance(self.base, x509.Name) else str(self.base)
        return f"{self.kind}:{shown}"


@dataclass(frozen=True)
class NameLimits:
    """The constraints of one certificate in the chain; `owner` is its subject in words."""

    owner: str
    permitted: tuple[Subtree, ...]
    excluded: tuple[Subtree, ...]


def parse_subtree(text: str) -> Subtree:
    """`dns:example.com`, `ip:10.0.0.0/8`, `email:example.com`, `uri:.example.com` or `dir:O=Example,C=DE`.

    Raises ValueError in words.
    """
    kind, colon, value = text.partition(":")
    if not colon or kind not in _KINDS.values():
        raise ValueError(f"{text!r}: write it as dns:…, ip:…, email:…, uri:… or dir:…")
    try:
        if kind == "ip":
            return Subtree(kind, ipaddress.ip_network(value))
        if kind == "dir":
            return Subtree(kind, dn.parse_dn(value))
        host = value.rpartition("@")[2] if kind == "email" else value
        parse_dns_name(host.removeprefix("."), wildcard=False)
    except (ValueError, Refusal) as error:
        raise ValueError(f"{text!r}: {error}") from None
    return Subtree(kind, value)


def build_constraints(permitted: Iterable[Subtree], excluded: Iterable[Subtree]) -> x509.NameConstraints | None:
    """The extension; None where nothing is constrained."""
    allow, deny = [_general_name(s) for s in permitted], [_general_name(s) for s in excluded]
    return x509.NameConstraints(allow or None, deny or None) if allow or deny else None


def _general_name(subtree: Subtree) -> x509.GeneralName:
    for kind, word in _KINDS.items():
        if word == subtree.kind:
            make: Callable[[Any], x509.GeneralName] = kind
            return make(subtree.base)
    raise ValueError(f"there is no kind {subtree.kind!r}")


def check_name_constraints(
    chain: tuple[NameLimits, ...], subject: x509.Name, names: tuple[AltName, ...], *, ca: bool = False
) -> None:
    """Raise REJECTED_NAME for a name that a CA of the chain may not certify; the refusal names the constraint.

    `ca`: the certificate is a CA's, whose common name is no host.
    """
    for limits in chain:
        refused = []
        for kind, value, shown in _values(subject, names, ca=ca):
            why = _why_not(limits, kind, value)
            if why:
                refused.append(RefusedName(RefusalKind.REJECTED_NAME, kind, shown, why))
        if refused:
            listed = ", ".join(f"{name.name_type}:{name.name} ({name.detail})" for name in refused[:5])
            raise Refusal(
                RefusalKind.REJECTED_NAME,
                f"names that the CA {limits.owner!r} may not certify: {listed}",
                names=tuple(name for name in refused if name.name_type != "dir"),
            )


def limits_of(chain: Iterable[x509.Certificate]) -> tuple[NameLimits, ...]:
    """The constraints in a chain. Raises Refusal UNAVAILABLE when one of them cannot be read."""
    return tuple(_limits(chain))


def _limits(chain: Iterable[x509.Certificate]) -> Iterator[NameLimits]:
    for certificate in chain:
        owner = dn.format_dn(certificate.subject)[:200]
        try:
            value = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
        except x509.ExtensionNotFound:
            continue
        except (ValueError, x509.UnsupportedGeneralNameType):
            words = f"the nameConstraints of the CA {owner!r} cannot be read, so nothing can be issued under it"
            raise Refusal(RefusalKind.UNAVAILABLE, words) from None
        yield NameLimits(owner, _subtrees(value.permitted_subtrees), _subtrees(value.excluded_subtrees))


def _subtrees(names: list[x509.GeneralName] | None) -> tuple[Subtree, ...]:
    """Those of kinds that this CA issues; others constrain names that it never puts in."""
    found = [Subtree(_KINDS[type(name)], name.value) for name in names or () if type(name) in _KINDS]
    for name in names or ():
        if isinstance(name, x509.OtherName) and name.type_id.dotted_string in KINDS:
            found.append(Subtree(KINDS[name.type_id.dotted_string].value, name.value.hex()))
    return tuple(found)


def _values(subject: x509.Name, names: tuple[AltName, ...], *, ca: bool) -> Iterator[tuple[str, Any, str]]:
    """Kind, value and words of every name in the certificate that a constraint can be about."""
    for name in names:
        value: Any = ipaddress.ip_address(name.value) if name.kind is AltNameKind.IP else name.value
        yield name.kind.value, value, name.value
    if not subject.rdns:
        return
    yield "dir", subject, dn.format_dn(subject)[:200]
    for attribute in subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS):
        yield "email", str(attribute.value), str(attribute.value)[:200]
    if ca or any(name.kind is AltNameKind.DNS for name in names):
        return
    for attribute in subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        host = _as_host(str(attribute.value))
        if host is not None:
            yield "dns", host, host


def _as_host(common_name: str) -> str | None:
    if "." not in common_name:
        return None
    try:
        return parse_dns_name(common_name).value
    except Refusal:
        return None


def _why_not(limits: NameLimits, kind: str, value: Any) -> str | None:
    within, touches = _RULES[kind]
    for subtree in limits.excluded:
        if subtree.kind == kind and touches(value, subtree.base):
            return f"excluded by {subtree}"
    permitted = [subtree for subtree in limits.permitted if subtree.kind == kind]
    if permitted and not any(within(value, subtree.base) for subtree in permitted):
        return f"permitted are only {', '.join(map(str, permitted[:5]))}"
    return None


def _host_within(host: str, base: str) -> bool:
    """A host under a dNSName constraint: itself or any number of labels before it; `.base` leaves itself out."""
    host, base = lower_ascii(host), lower_ascii(base)
    if not base:
        return True
    return host.endswith(base) if base.startswith(".") else host == base or host.endswith(f".{base}")


def _host_touches(host: str, base: str) -> bool:
    """Whether an excluded subtree has the host, or one of those that a wildcard stands for."""
    if _host_within(host, base):
        return True
    first, _, rest = lower_ascii(base).removeprefix(".").partition(".")
    return bool(first) and host.startswith("*.") and rest == lower_ascii(host[2:])


def _mail_within(mailbox: str, base: str) -> bool:
    local, _, host = mailbox.rpartition("@")
    wanted, at, base_host = base.rpartition("@")
    if at and local != wanted:  # the local part has letter case (RFC 5321 §2.4)
        return False
    return _exact_or_below(host, base_host)


def _uri_host(uri: str) -> str | None:
    """The host in a URI; None where there is none that a constraint could be about."""
    try:
        host = urlsplit(uri).hostname
        return None if not host else parse_dns_name(host, wildcard=False).value
    except (ValueError, Refusal):
        return None


def _uri_within(uri: str, base: str) -> bool:
    host = _uri_host(uri)
    return host is not None and _exact_or_below(host, base)


def _uri_touches(uri: str, base: str) -> bool:
    """RFC 5280: where URIs are constrained, one without a host name is not acceptable at all."""
    host = _uri_host(uri)
    return host is None or _exact_or_below(host, base)


def _exact_or_below(host: str, base: str) -> bool:
    host, base = lower_ascii(host), lower_ascii(base)
    if not base:
        return True
    return host.endswith(base) if base.startswith(".") else host == base


def _address_within(address: Any, network: Any) -> bool:
    return address in network  # of the other version it is in none


def _name_within(name: x509.Name, base: x509.Name) -> bool:
    above = dn.canonical(base)
    return dn.canonical(name)[: len(above)] == above


def _no_device(_name: str, _base: str) -> bool:
    """RFC 5280 says of no otherName what is below it: where such names are limited at all, none is within."""
    return False


def _every_device(_name: str, _base: str) -> bool:
    return True


_RULES: dict[str, tuple[Callable[[Any, Any], bool], Callable[[Any, Any], bool]]] = {
    "dns": (_host_within, _host_touches),
    "ip": (_address_within, _address_within),
    "email": (_mail_within, _mail_within),
    "uri": (_uri_within, _uri_touches),
    "dir": (_name_within, _name_within),
    **dict.fromkeys(_DEVICE_KINDS, (_no_device, _every_device)),
}
"""By kind: whether a name is within a subtree, and whether an excluded subtree has anything of it."""
