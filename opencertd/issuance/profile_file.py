"""From the tables of the settings to the core's profiles and policies. What contradicts itself is refused in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cryptography import x509

from opencertd.asn1 import dn
from opencertd.errors import StartError
from opencertd.issuance.coherence import contradiction
from opencertd.issuance.past import IMPORTED
from opencertd.issuance.profile_tables import (
    EXTENDED_KEY_USAGES,
    CertificatePolicyTable,
    ExtensionTable,
    LevelTable,
    PolicyTable,
    ProfileTable,
    RequesterTable,
    RulesTable,
    parse_oid,
)
from opencertd.issuance.profiles import CertificatePolicy, Profile, Publication
from opencertd.issuance.rules import (
    Policies,
    Policy,
    RequesterMatch,
    RequesterPolicy,
    Rule,
    SubjectRule,
    parse_rule,
    parse_subject_rule,
)
from opencertd.issuance.shipped import shipped_profiles
from opencertd.issuance.subjects import parse_template
from opencertd.keys.kinds import SIGNATURE_ALGORITHMS
from opencertd.model.certificates import CrossKind, IssuerRecord, IssuerRole
from opencertd.model.durations import parse_duration
from opencertd.model.names import AltNameKind
from opencertd.model.request import IssuingProtocol
from opencertd.model.requester import Proof

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
_EST_OPERATIONS = ("cacerts", "simpleenroll", "simplereenroll", "csrattrs", "serverkeygen", "fullcmc")
_API_NAMES = ("certificate", "crl", "csr", "inventory", "ocsp", "revoke")
_RECORDED = (*(role.value for role in IssuerRole), *(kind.value for kind in CrossKind), IMPORTED)
RESERVED = frozenset((*_EST_OPERATIONS, *_API_NAMES, *_RECORDED))
"""Words in URLs, and what CA certificates and imported ones are recorded under."""


@dataclass(frozen=True)
class Rules:
    """What the core goes by, and what a reload replaces as one."""

    profiles: Mapping[str, Profile]
    policies: Policies


def build_rules(
    tables: Mapping[str, ProfileTable],
    policy: PolicyTable,
    issuers: tuple[IssuerRecord, ...],
    publication: Publication,
) -> Rules:
    """All profiles, those of the settings over the shipped ones, and the policies.

    Raises StartError with a sentence that names the key at fault.
    """
    first = [issuer for issuer in issuers if issuer.predecessor_id is None]
    issuing, roots = (tuple(i.name for i in first if i.role is role) for role in (IssuerRole.ISSUING, IssuerRole.ROOT))
    profiles = dict(shipped_profiles(issuing, tuple(issuer.name for issuer in issuers), roots))
    changed = _Builder(profiles, tables)
    for name in tables:
        profile = changed.profile(name, ())
        fault = contradiction(profile, issuers, publication)
        if fault is not None:
            key, words = fault
            raise StartError(f"the profile {name!r} contradicts itself: 'profiles.{name}.{key}': {words}")
    return Rules(profiles | changed.built, build_policies(policy))


class _Builder:
    """Builds profiles from tables, each after the one it begins with."""

    def __init__(self, shipped: Mapping[str, Profile], tables: Mapping[str, ProfileTable]) -> None:
        self.built: dict[str, Profile] = {}
        self._shipped = shipped
        self._tables = tables

    def profile(self, name: str, below: tuple[str, ...]) -> Profile:
        """The profile of that name, as the settings want it. `below`: those that begin with it."""
        if name in self.built:
            return self.built[name]
        if name in below:
            raise StartError(f"'profiles.{name}.like': profiles begin with each other: {' → '.join((*below, name))}")
        table = self._tables.get(name)
        if table is None:
            return self._shipped[name]
        self._check_name(name)
        profile = replace(_changed(self._base(name, table, (*below, name)), table, name), name=name)
        self.built[name] = profile
        return profile

    def _base(self, name: str, table: ProfileTable, below: tuple[str, ...]) -> Profile:
        like = table.like
        if like is None or like == name:
            return self._shipped.get(name) or replace(self.profile("default", below), description="")
        known = {n for n, profile in self._shipped.items() if profile.public} | self._tables.keys()
        if like not in known:
            raise StartError(f"'profiles.{name}.like': there is no profile {like!r}; there are {_listed(known)}")
        return replace(self.profile(like, below), description="")  # words are not for another profile

    def _check_name(self, name: str) -> None:
        shipped = self._shipped.get(name)
        if not NAME.match(name) or name in RESERVED or (shipped is not None and not shipped.public):
            raise StartError(
                f"'profiles.{name[:80]}': a profile cannot have this name: use small letters, digits, '-', '_' and "
                "'.', and no word that the URLs of EST and /ca, or the daemon itself, already use"
            )


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


def _changed(base: Profile, table: ProfileTable, name: str) -> Profile:
    """`base` with all that the table gives."""
    given = {key: getattr(table, key) for key in ProfileTable.model_fields if getattr(table, key) is not None}
    changes = {field: convert(given[key]) for key, (field, convert) in _CONVERSIONS.items() if key in given}
    if "rsa_min" in given or "rsa_max" in given:
        changes["rsa_bits"] = (given.get("rsa_min", base.rsa_bits[0]), given.get("rsa_max", base.rsa_bits[1]))
    if "policy" in given:
        changes["policy"] = _level(f"[profiles.{name}.policy]", given["policy"])
    if {"ocsp", "ca_issuer", "crl"} & given.keys() and not base.published:
        changes = {"published": True, "ocsp": (), "ca_issuers": (), "crl": ()} | changes
    if "issuers" in given and "issuer_by_key" not in given:
        changes["issuer_by_key"] = {}
    return replace(base, **changes)


def _attributes(words: tuple[str, ...]) -> frozenset[x509.ObjectIdentifier]:
    return frozenset(dn.ATTRIBUTES.get(word.upper()) or parse_oid(word) for word in words)


def _purposes(words: tuple[str, ...]) -> tuple[x509.ObjectIdentifier, ...]:
    return tuple(EXTENDED_KEY_USAGES.get(word) or parse_oid(word) for word in words)


def _certificate_policies(tables: tuple[CertificatePolicyTable, ...]) -> tuple[CertificatePolicy, ...]:
    return tuple(CertificatePolicy(parse_oid(table.oid), table.cps) for table in tables)


def _extensions(tables: tuple[ExtensionTable, ...]) -> tuple[x509.Extension[x509.UnrecognizedExtension], ...]:
    return tuple(
        x509.Extension(oid, table.critical, x509.UnrecognizedExtension(oid, table.value_der()))
        for table in tables
        for oid in (parse_oid(table.oid),)
    )


def _matches(tables: tuple[RequesterTable, ...]) -> tuple[RequesterMatch, ...]:
    return tuple(build_match(table) for table in tables)


def build_match(table: RequesterTable) -> RequesterMatch:
    """Who is meant."""
    return RequesterMatch(Proof(table.proof) if table.proof else None, table.id, table.label, table.role)


def _kinds(words: tuple[str, ...]) -> frozenset[AltNameKind]:
    return frozenset(AltNameKind(word) for word in words)


def _same(value: Any) -> Any:
    return value


_CONVERSIONS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "description": ("description", _same),
    "protocols": ("protocols", lambda words: frozenset(IssuingProtocol(word) for word in words)),
    "requesters": ("requesters", _matches),
    "approval": ("approval", lambda word: word == "person"),
    "issuers": ("issuers", _same),
    "issuer_fits_key": ("issuer_fits_key", _same),
    "issuer_by_key": ("issuer_by_key", _same),
    "signature_algorithm": ("signature_algorithms", lambda words: tuple(SIGNATURE_ALGORITHMS[word] for word in words)),
    "key_types": ("key_types", frozenset),
    "validity": ("validity", parse_duration),
    "validity_max": ("validity_max", parse_duration),
    "validity_may_be_asked": ("validity_may_be_asked", _same),
    "backdate": ("backdate", parse_duration),
    "subject": ("subject", parse_template),
    "subject_attributes": ("subject_attributes", _attributes),
    "subject_others": ("subject_others_dropped", lambda word: word == "drop"),
    "names": ("name_kinds", _kinds),
    "names_required": ("names_required", _kinds),
    "names_max": ("names_max", _same),
    "wildcards": ("wildcards", _same),
    "ca": ("ca", _same),
    "path_length": ("path_length", _same),
    "key_usage": ("key_usage", frozenset),
    "extended_key_usage": ("extended_key_usages", _purposes),
    "extended_key_usage_critical": ("extended_key_usage_critical", _same),
    "certificate_policies": ("certificate_policies", _certificate_policies),
    "must_staple": ("must_staple", _same),
    "extensions": ("extensions", _extensions),
    "ocsp_no_check": ("ocsp_no_check", _same),
    "certificate_transparency": ("certificate_transparency", _same),
    "ocsp": ("ocsp", _same),
    "ca_issuer": ("ca_issuers", _same),
    "crl": ("crl", _same),
    "pkilint": ("pkilint", _same),
    "hold": ("hold", _same),
}
"""Keys of a table: which field of a profile each sets, and how."""


def build_policies(table: PolicyTable) -> Policies:
    """The policies above profiles."""
    requesters = tuple(
        RequesterPolicy(build_match(one), _level(f"[[policy.requester]] number {number}", one))
        for number, one in enumerate(table.requester, 1)
    )
    return Policies(_level("[policy]", table), requesters)


def _level(where: str, table: LevelTable) -> Policy:
    return Policy(
        where, _rules(table.allow), _rules(table.deny), _subject_rules(table.allow), _subject_rules(table.deny)
    )


def _rules(table: RulesTable) -> tuple[Rule, ...]:
    keys = {kind: kind.value.replace("-", "_") for kind in AltNameKind}
    return tuple(parse_rule(kind, text) for kind, key in keys.items() for text in getattr(table, key))


def _subject_rules(table: RulesTable) -> tuple[SubjectRule, ...]:
    return tuple(parse_subject_rule(text) for text in table.subject)
