"""Rules say which names may be had: deny wins, and where a kind has allow rules, one of them must cover the name.

A rule stands for a set of names. It allows what lies wholly inside the set and denies what touches it: the name
`*.example.com` in a certificate stands for every name one label below example.com, so that a rule which denies one of
those denies the wildcard too.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cryptography import x509

from opencertd.asn1 import dn
from opencertd.errors import Refusal
from opencertd.model.devices import parse_device_name
from opencertd.model.names import AltNameKind, check_dns_labels
from opencertd.model.requester import Proof, Requester

SUBJECT = "subject"
KINDS = (*(kind.value for kind in AltNameKind), SUBJECT)
"""Kinds of rules, as settings spell them."""

_Test = Callable[[str], bool]
_SubjectForm = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Rule:
    """One rule for names of a kind, as it was written. `covers`: the name lies inside; `touches`: a part of it does."""

    kind: str
    text: str
    covers: _Test = field(compare=False, repr=False)
    touches: _Test = field(compare=False, repr=False)


@dataclass(frozen=True)
class SubjectRule:
    """A rule for whole subjects: every attribute of `wanted` must be there. `*` in a value stands for anything."""

    text: str
    wanted: tuple[tuple[str, str], ...]

    def matches(self, subject: x509.Name) -> bool:
        """Whether the subject has all that the rule names, whatever else it has."""
        present = [pair for rdn in dn.canonical(subject) for pair in rdn]
        return all(
            any(oid == wanted and fnmatch.fnmatchcase(value, pattern) for oid, value in present)
            for wanted, pattern in self.wanted
        )


def parse_rule(kind: AltNameKind, text: str) -> Rule:
    """A rule for names. Raises ValueError in words.

    dns: `host.example.com`, `.example.com` (everything below), `*.example.com` (one label below, and the wildcard
    itself). ip: an address or CIDR. email: `a@example.com`, `@example.com`, `@.example.com` (hosts below). uri: all
    of it, or a beginning that ends in `/` or `:` and a `*`. Devices: all of it, or its beginning and a `*`. `*` alone
    is every name of the kind.
    """
    if text == "*":
        return Rule(kind.value, text, _anything, _anything)
    parse = {
        AltNameKind.DNS: _dns,
        AltNameKind.IP: _ip,
        AltNameKind.EMAIL: _email,
        AltNameKind.URI: _uri,
        AltNameKind.PERMANENT_IDENTIFIER: _device,
        AltNameKind.HARDWARE_MODULE: _device,
    }[kind]
    covers, touches = parse(text)
    return Rule(kind.value, text, covers, touches)


def parse_subject_rule(text: str) -> SubjectRule:
    """A rule for subjects, written as a name: `O=Example,CN=device-*`. Raises ValueError in words."""
    pairs = (pair for rdn in dn.canonical(dn.parse_dn(text)) for pair in rdn)
    wanted = ((oid, value.replace("[", "[[]").replace("?", "[?]")) for oid, value in pairs)  # only * is special
    return SubjectRule(text, tuple(sorted(wanted)))


def _anything(_name: str) -> bool:
    return True


def _host(text: str) -> str:
    base = text.lower().removesuffix(".")
    try:
        check_dns_labels(text, base)
    except Refusal as refusal:
        raise ValueError(refusal.detail) from None
    return base


def _dns(text: str) -> tuple[_Test, _Test]:
    if text.startswith("."):
        base = _host(text[1:])

        def below(name: str) -> bool:
            parent = name[2:] if name.startswith("*.") else name.partition(".")[2]
            return parent == base or parent.endswith(f".{base}")

        return below, below
    if text.startswith("*."):
        base = _host(text[2:])

        def one_below(name: str) -> bool:
            return name.partition(".")[2] == base

        return one_below, one_below
    host = _host(text)
    wildcard = f"*.{host.partition('.')[2]}"
    return (lambda name: name == host), (lambda name: name in (host, wildcard))


def _ip(text: str) -> tuple[_Test, _Test]:
    network = ipaddress.ip_network(text)

    def inside(name: str) -> bool:
        address = ipaddress.ip_address(name)
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any(a.version == network.version and a in network for a in (address, mapped) if a is not None)

    return inside, inside


def _email(text: str) -> tuple[_Test, _Test]:
    local, at, domain = text.rpartition("@")
    if not at:
        raise ValueError(f"{text!r} is not an e-mail rule: write a@example.com, @example.com or @.example.com")
    below = domain.startswith(".")
    host = _host(domain.removeprefix("."))
    if below and local:
        raise ValueError(f"{text!r} is not an e-mail rule: hosts below a domain have no single mailbox")

    def matches(name: str) -> bool:
        # Local parts may differ by case (RFC 5321 §2.4), but nobody gives two people addresses that do.
        found, _, at_host = name.rpartition("@")
        if below:
            return at_host.endswith(f".{host}")
        return at_host == host and (not local or found.casefold() == local.casefold())

    return matches, matches


def _uri(text: str) -> tuple[_Test, _Test]:
    if not re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:[!-~]+\Z", text) or "*" in text[:-1]:
        raise ValueError(f"{text!r} is not a URI rule: write a whole URI, or its beginning and one * at the end")
    if not text.endswith("*"):
        whole = normal_uri(text)
        return (lambda name: normal_uri(name) == whole), (lambda name: normal_uri(name) == whole)
    beginning = normal_uri(text[:-1])
    if not text[:-1].endswith(("/", ":")):
        raise ValueError(f"{text!r} is not a URI rule: put / or : before the *, or longer host names match too")
    return (lambda name: normal_uri(name).startswith(beginning)), (lambda name: normal_uri(name).startswith(beginning))


def _device(text: str) -> tuple[_Test, _Test]:
    if "*" in text[:-1]:
        raise ValueError(f"{text!r} is no rule for devices: write a whole name, or its beginning and one * at the end")
    if text.endswith("*"):
        beginning = text[:-1]
        return (lambda name: name.startswith(beginning)), (lambda name: name.startswith(beginning))
    parse_device_name(text, oid_needed=False)
    return (lambda name: name == text), (lambda name: name == text)


_DEFAULT_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443", "ldap": "389", "ftp": "21"}
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")


def normal_uri(text: str) -> str:
    """The URI in the form in which equivalent ones are equal (RFC 3986 §6.2.2, §6.2.3), without user information."""

    def plain(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if _UNRESERVED.match(character) else match[0].upper()

    scheme, _, rest = re.sub(r"%([0-9a-fA-F]{2})", plain, text).partition(":")
    scheme = scheme.lower()
    if not rest.startswith("//"):
        return f"{scheme}:{rest}"
    authority, path = re.match(r"//([^/?#]*)(.*)\Z", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    host, _, port = authority.rpartition("@")[2].lower().partition(":")
    if "[" in authority:  # an IPv6 address
        host, _, port = authority.rpartition("@")[2].lower().rpartition("]")
        host, port = f"{host}]", port.removeprefix(":")
    shown = "" if port in ("", _DEFAULT_PORTS.get(scheme)) else f":{port}"
    way, mark, more = re.match(r"([^?#]*)([?#]?)(.*)\Z", path, re.DOTALL).groups()  # type: ignore[union-attr]
    return f"{scheme}://{host.rstrip('.')}{shown}{_without_dots(way) or '/'}{mark}{more}"


def _without_dots(path: str) -> str:
    """RFC 3986 §5.2.4."""
    kept: list[str] = []
    parts = path.split("/")
    for number, part in enumerate(parts):
        if part == "..":
            del kept[max(1, len(kept) - 1) :]
        elif part != ".":
            kept.append(part)
        if part in (".", "..") and number == len(parts) - 1:
            kept.append("")
    return "/".join(kept)


@dataclass(frozen=True)
class Policy:
    """Rules of one level. `where`: what the settings call it, for those who are refused."""

    where: str = ""
    allow: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()
    allow_subjects: tuple[SubjectRule, ...] = ()
    deny_subjects: tuple[SubjectRule, ...] = ()

    @property
    def has_rules(self) -> bool:
        """Whether it says anything."""
        return bool(self.allow or self.deny or self.allow_subjects or self.deny_subjects)

    def why_not(self, kind: AltNameKind, value: str) -> str | None:
        """In words, which rule forbids the name; None when none does."""
        return self.why_denied(kind, value) or self.why_not_allowed(kind, value)

    def why_denied(self, kind: AltNameKind, value: str) -> str | None:
        """Which deny rule forbids the name."""
        for rule in self.deny:
            if rule.kind == kind.value and rule.touches(value):
                return f"denied by the {rule.kind} rule {rule.text!r} of {self.where}"
        return None

    def why_not_allowed(self, kind: AltNameKind, value: str) -> str | None:
        """Which allow rules there are, when none covers the name."""
        rules = [rule for rule in self.allow if rule.kind == kind.value]
        if not rules or any(rule.covers(value) for rule in rules):
            return None
        return f"not covered by the {kind.value} rules that {self.where} allows: {_listed([r.text for r in rules])}"

    def why_not_subject(self, subject: x509.Name) -> str | None:
        """In words, which rule forbids the subject; None when none does."""
        for rule in self.deny_subjects:
            if rule.matches(subject):
                return f"denied by the subject rule {rule.text!r} of {self.where}"
        if not self.allow_subjects or any(rule.matches(subject) for rule in self.allow_subjects):
            return None
        shown = _listed([rule.text for rule in self.allow_subjects])
        return f"not covered by the subject rules that {self.where} allows: {shown}"


NO_RULES = Policy()


def _listed(texts: list[str], most: int = 5) -> str:
    return ", ".join(map(repr, texts[:most])) + (", …" if len(texts) > most else "")


@dataclass(frozen=True)
class RequesterMatch:
    """Who is meant: all that is given must fit. `*` in `id` and `label` stands for anything."""

    proof: Proof | None = None
    id: str | None = None
    label: str | None = None
    role: str | None = None

    def matches(self, requester: Requester) -> bool:
        """Whether the requester is meant."""
        return (
            (self.proof is None or self.proof is requester.proof)
            and (self.id is None or _fits(self.id, requester.id))
            and (self.label is None or _fits(self.label, requester.label))
            and (self.role is None or self.role in requester.roles)
        )


def _fits(pattern: str, value: str) -> bool:
    return fnmatch.fnmatchcase(value, pattern.replace("[", "[[]").replace("?", "[?]"))


@dataclass(frozen=True)
class RequesterPolicy:
    """Rules for some requesters."""

    who: RequesterMatch
    policy: Policy


@dataclass(frozen=True)
class Policies:
    """The rules above profiles: of the whole authority, and of requesters. Each level must let a name pass."""

    authority: Policy = Policy("[policy]")
    requesters: tuple[RequesterPolicy, ...] = ()

    def of(self, requester: Requester) -> tuple[Policy, ...]:
        """The levels that count for a requester."""
        return (self.authority, *(level.policy for level in self.requesters if level.who.matches(requester)))
