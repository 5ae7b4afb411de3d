"""Who may have what: a request is refused, never trimmed, when it asks for more than was granted and rules allow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from opencertd.asn1 import dn
from opencertd.errors import Refusal, RefusalKind, RefusedName
from opencertd.issuance.issuers import Issuers
from opencertd.issuance.profiles import Profile, able_usages
from opencertd.issuance.rules import Policies, Policy
from opencertd.issuance.subjects import build_subject
from opencertd.keys.kinds import SubjectKey, kind_of
from opencertd.model.names import (
    DEVICE_KINDS,
    AltName,
    AltNameKind,
    check_dns_labels,
    could_be_address,
    lower_ascii,
    parse_alt_name,
    parse_dns_name,
    parse_email,
)
from opencertd.model.request import IssuanceRequest, IssuingProtocol
from opencertd.model.requester import NameGrant, Proof, Requester

MAX_SUBJECT_ATTRIBUTES = 32
"""Attributes in one subject; real ones have fewer than ten, and each costs everybody who parses the certificate."""


@dataclass(frozen=True)
class _Asked:
    """What is judged: the names asked, and by which profile, for whom and under which levels of rules."""

    names: tuple[AltName, ...]
    profile: Profile
    requester: Requester
    levels: tuple[Policy, ...]


def check_request(request: IssuanceRequest, profile: Profile, issuers: Issuers, policies: Policies) -> x509.Name:
    """The subject of the certificate to be. Raises NOT_FOUND (profile), UNAUTHORIZED, BAD_CSR, REJECTED_NAME."""
    check_profile_use(profile, request.requester, request.protocol)
    asked = _judged(request.names, profile, request.requester, policies)
    _check_amount(request, profile)
    subject = build_subject(
        profile.subject,
        profile.subject_attributes,
        request.subject,
        request.names,
        drop_others=profile.subject_others_dropped,
    )
    _check_anybody(subject, request, profile)
    _check_subject(subject, issuers)
    _check_names(asked)
    _check_subject_names(subject, asked)
    _check_addresses(subject, asked.names)
    _check_domain(subject)
    _check_identities(subject, asked)
    for level in asked.levels:
        why = level.why_not_subject(subject) if subject.rdns else None
        if why:
            shown = dn.format_dn(subject)[:260]
            raise Refusal(RefusalKind.REJECTED_NAME, f"the subject {shown!r} may not be issued: {why}")
    return subject


def check_profile_use(profile: Profile, requester: Requester, protocol: IssuingProtocol | None) -> None:
    """Raise NOT_FOUND when the profile is not for that protocol, UNAUTHORIZED when it is not for the requester."""
    if requester.proof is Proof.DAEMON:
        return
    if not profile.public or (protocol is not None and protocol not in profile.protocols):
        raise Refusal(RefusalKind.NOT_FOUND, f"there is no profile {profile.name!r}")
    if requester.profiles is not None and profile.name not in requester.profiles:
        raise Refusal(RefusalKind.UNAUTHORIZED, f"this requester may not use the profile {profile.name!r}")
    if profile.requesters and not any(who.matches(requester) for who in profile.requesters):
        raise Refusal(RefusalKind.UNAUTHORIZED, f"the profile {profile.name!r} is not for this requester")


def check_names(names: tuple[AltName, ...], profile: Profile, requester: Requester, policies: Policies) -> None:
    """Raise REJECTED_NAME for names that could never be issued, before anybody proves control of them."""
    if len(names) > profile.names_max:
        raise Refusal(RefusalKind.REJECTED_NAME, f"{len(names)} names are asked; {profile.names_max} is the most")
    _check_names(_judged(names, profile, requester, policies))


def check_key_type(key: SubjectKey, profile: Profile) -> None:
    """Raise BAD_PUBLIC_KEY when the profile is not for keys of that kind or size."""
    kind = kind_of(key)
    if profile.key_types is not None and kind.name not in profile.key_types:
        listed = ", ".join(sorted(profile.key_types))
        why = f"the profile {profile.name!r} is for keys of {listed}, not {kind.name}"
        raise Refusal(RefusalKind.BAD_PUBLIC_KEY, why)
    if not able_usages(profile.key_usage, kind.family):
        why = f"keys of {kind.name} are not able to what the profile {profile.name!r} is for"
        raise Refusal(RefusalKind.BAD_PUBLIC_KEY, why)
    least, most = profile.rsa_bits
    if isinstance(key, rsa.RSAPublicKey) and not least <= key.key_size <= most:
        raise Refusal(
            RefusalKind.BAD_PUBLIC_KEY,
            f"the profile {profile.name!r} is for RSA keys of {least} to {most} bits, not {key.key_size}",
        )


def _judged(names: tuple[AltName, ...], profile: Profile, requester: Requester, policies: Policies) -> _Asked:
    # What the daemon has for itself, the operator has named in the settings already.
    levels = () if requester.proof is Proof.DAEMON else (*policies.of(requester), profile.policy)
    return _Asked(names, profile, requester, tuple(level for level in levels if level.has_rules))


def _check_amount(request: IssuanceRequest, profile: Profile) -> None:
    if len(request.names) > profile.names_max:
        raise Refusal(
            RefusalKind.REJECTED_NAME, f"{len(request.names)} names are asked; {profile.names_max} is the most"
        )
    required = profile.names_required
    if required and not any(name.kind in required for name in request.names):
        listed = " or ".join(sorted(kind.value for kind in required))
        raise Refusal(RefusalKind.BAD_CSR, f"the profile {profile.name!r} needs a subjectAltName of kind {listed}")


def _check_anybody(subject: x509.Name, request: IssuanceRequest, profile: Profile) -> None:
    if subject.rdns:
        return
    if not request.names:
        raise Refusal(RefusalKind.BAD_CSR, "the request names nobody: it has neither a subject nor a subjectAltName")
    if profile.ca:
        raise Refusal(
            RefusalKind.BAD_CSR, "a CA needs a subject: it is the issuer of what it signs (RFC 5280 §4.1.2.6)"
        )


def _check_subject(subject: x509.Name, issuers: Issuers) -> None:
    attributes = tuple(subject)
    if len(attributes) > MAX_SUBJECT_ATTRIBUTES:
        why = f"the subject has {len(attributes)} attributes; {MAX_SUBJECT_ATTRIBUTES} is the most"
        raise Refusal(RefusalKind.REJECTED_NAME, why)
    for attribute in attributes:
        # What a person cannot see names somebody else than it seems to: NUL, escapes, reversed or empty text.
        if not str(attribute.value).isprintable() or not str(attribute.value).strip():
            shown = attribute.rfc4514_attribute_name
            why = f"the subject's {shown} is blank or has characters that cannot be seen"
            raise Refusal(RefusalKind.REJECTED_NAME, why)
    if len(subject.get_attributes_for_oid(NameOID.COMMON_NAME)) > 1:
        raise Refusal(RefusalKind.REJECTED_NAME, "the subject has more than one common name")
    # A certificate whose subject is a CA's would be taken for that CA by whoever builds chains by name.
    if dn.canonical(subject) in issuers.subjects:
        raise Refusal(RefusalKind.REJECTED_NAME, "the subject is the name of this certificate authority")


def _check_names(asked: _Asked) -> None:
    refused = tuple(_refused_names(asked))
    if refused:
        listed = ", ".join(f"{name.name} ({name.detail})" for name in refused[:5])
        raise Refusal(RefusalKind.REJECTED_NAME, f"names that may not be issued: {listed}", names=refused)


def _refused_names(asked: _Asked) -> Iterator[RefusedName]:
    for name in asked.names:
        if name.kind not in asked.profile.name_kinds:
            why, kind = f"the profile has no {name.kind.value} names", RefusalKind.UNSUPPORTED_NAME
        elif not asked.profile.wildcards and name.kind is AltNameKind.DNS and name.value.startswith("*."):
            why, kind = "the profile has no wildcards", RefusalKind.REJECTED_NAME
        elif not asked.requester.grant.covers(name):
            why, kind = "not granted to this requester", RefusalKind.REJECTED_NAME
        elif name.kind in DEVICE_KINDS and _stands_for_device(asked.requester):
            why, kind = "a client certificate cannot show that another key is the device's", RefusalKind.REJECTED_NAME
        elif found := next(filter(None, (level.why_not(name.kind, name.value) for level in asked.levels)), None):
            why, kind = found, RefusalKind.REJECTED_NAME
        else:
            continue
        yield RefusedName(kind, name.kind.value, name.value, why)


def _stands_for_device(requester: Requester) -> bool:
    """Whether all that it shows is a certificate of the device: whose key was attested once, not the one asked for."""
    return requester.proof is Proof.TLS_CERTIFICATE and not requester.grant.everything


def _check_subject_names(subject: x509.Name, asked: _Asked) -> None:
    """Common names and e-mail addresses in the subject are names too: clients still read them.

    What the request has a part in needs the same grant as a subjectAltName; all of them pass the same rules.
    """
    grant, template = asked.requester.grant, asked.profile.subject
    for oid, word in ((NameOID.COMMON_NAME, "common name"), (NameOID.EMAIL_ADDRESS, "e-mail address")):
        wished = template is None or template.takes_wishes(oid)
        for attribute in subject.get_attributes_for_oid(oid):
            value = str(attribute.value)
            if wished and not common_name_granted(value, asked.names, grant):
                raise Refusal(RefusalKind.REJECTED_NAME, f"the {word} {value[:80]!r} is not granted to this requester")
            why = next(filter(None, (_why_not_value(level, value) for level in asked.levels)), None)
            if why:
                raise Refusal(RefusalKind.REJECTED_NAME, f"the {word} {value[:80]!r} may not be issued: {why}")


def _check_addresses(subject: x509.Name, names: tuple[AltName, ...]) -> None:
    """An e-mail address in the subject is a mailbox, and stands among the names too (RFC 5280 §4.1.2.6)."""
    for attribute in subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS):
        value = str(attribute.value)
        try:
            parse_email(value)
        except Refusal as refusal:
            raise Refusal(RefusalKind.REJECTED_NAME, f"the subject's e-mail address: {refusal.detail}") from None
        if AltName(AltNameKind.EMAIL, value) not in names:
            why = f"the subject's e-mail address {value[:80]!r} must be in subjectAltName too, spelled alike"
            raise Refusal(RefusalKind.REJECTED_NAME, why)


def _check_domain(subject: x509.Name) -> None:
    """The domain components are labels of a host name (RFC 2247 §2), the last of which comes first."""
    labels = [str(attribute.value) for attribute in subject.get_attributes_for_oid(NameOID.DOMAIN_COMPONENT)]
    if not labels:
        return
    domain = lower_ascii(".".join(reversed(labels)))
    try:
        check_dns_labels(domain, domain)
    except Refusal as refusal:
        raise Refusal(RefusalKind.REJECTED_NAME, f"the subject's domain components: {refusal.detail}") from None


_IDENTITIES = (NameOID.USER_ID, NameOID.SERIAL_NUMBER, NameOID.DOMAIN_COMPONENT)
"""Attributes that relying parties tell people and devices apart by, as they do by common names."""


_NAMED_BY_GRANT = frozenset(
    {Proof.PASSWORD, Proof.ENROLMENT_PASSWORD, Proof.BEARER_TOKEN, Proof.MANUFACTURER_CERTIFICATE}
)


def _check_identities(subject: x509.Name, asked: _Asked) -> None:
    """Who may have certain names only must have one of them, and may not pass for somebody else beside it.

    A TLS client certificate's subject has been compared as a whole, and ACME's subjects are made of granted names.
    """
    grant = asked.requester.grant
    if grant.everything or asked.requester.proof not in _NAMED_BY_GRANT:
        return
    if not asked.names and not subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        raise Refusal(RefusalKind.REJECTED_NAME, "the request has none of the names that this requester may have")
    for oid in _IDENTITIES:
        for attribute in subject.get_attributes_for_oid(oid):
            if not common_name_granted(str(attribute.value), asked.names, grant):
                shown = f"{attribute.rfc4514_attribute_name}={str(attribute.value)[:80]}"
                raise Refusal(RefusalKind.REJECTED_NAME, f"the subject's {shown!r} is not granted to this requester")


def _why_not_value(level: Policy, value: str) -> str | None:
    """Which rule forbids a value of the subject, read as each kind of name that it could be taken for."""
    for kind, name in _readings(value):
        # `device17` is a host name by its letters only; it needs dots to be taken for one that rules must allow.
        why = level.why_not(kind, name) if kind is not AltNameKind.DNS or "." in name else level.why_denied(kind, name)
        if why:
            return why
    return None


_SPOKEN_KINDS = tuple(kind for kind in AltNameKind if kind not in DEVICE_KINDS)
"""Kinds of names that a text can be told to be; anything could be a serial number."""


def _readings(value: str) -> Iterator[tuple[AltNameKind, str]]:
    folded = " ".join(value.split())
    for kind in _SPOKEN_KINDS:
        try:
            yield kind, parse_alt_name(kind, _ascii(folded) if kind is AltNameKind.DNS else folded).value
        except Refusal:
            continue


def _ascii(text: str) -> str:
    """A host name with letters beyond ASCII as clients look it up; the text itself where it is none."""
    if text.isascii():
        return text
    try:
        return text.encode("idna").decode("ascii")
    except UnicodeError:
        return text


def common_name_granted(value: str, names: tuple[AltName, ...], grant: NameGrant) -> bool:
    """Whether the common name is one of the (granted) names of the certificate, or granted by itself.

    A device's name is, unless it looks like somebody's address: makers choose serial numbers as they like.
    """
    folded = lower_ascii(value)
    counting = [name for name in names if name.kind not in DEVICE_KINDS or not could_be_address(value)]
    if folded in grant.common_names or any(lower_ascii(name.value) == folded for name in counting):
        return True
    return any(
        grant.covers(AltName(kind, folded)) for kind in _SPOKEN_KINDS if kind is not AltNameKind.DNS or _is_dns(folded)
    )


def _is_dns(text: str) -> bool:
    """Whether patterns for DNS names apply: they look at the end alone, and `other.org/x.example.com` ends well."""
    try:
        return parse_dns_name(text).value == text
    except Refusal:
        return False
