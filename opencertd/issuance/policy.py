"""Who may have what: a request is refused, never trimmed, when it asks for more than was granted."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import NameOID

from opencertd.asn1 import dn
from opencertd.errors import Refusal, RefusalKind, RefusedName
from opencertd.issuance.issuers import Issuers
from opencertd.issuance.profiles import SUBJECT_ATTRIBUTES, Profile
from opencertd.model.names import AltName, AltNameKind, lower_ascii, parse_dns_name
from opencertd.model.request import IssuanceRequest
from opencertd.model.requester import NameGrant, Proof

MAX_NAMES = 100
"""Names in one certificate; more make TLS handshakes that old clients cannot read."""

MAX_SUBJECT_ATTRIBUTES = 32
"""Attributes in one subject; real ones have fewer than ten, and each costs everybody who parses the certificate."""


def check_request(request: IssuanceRequest, profile: Profile, issuers: Issuers) -> None:
    """Raise the Refusal (NOT_FOUND, REJECTED_NAME, UNAUTHORIZED) that the request deserves, if any."""
    if not profile.public and request.requester.proof is not Proof.DAEMON:
        raise Refusal(RefusalKind.NOT_FOUND, f"there is no profile {profile.name!r}")
    _check_amount(request)
    _check_subject(request.subject, issuers)
    refused = tuple(_refused_names(request, profile))
    if refused:
        listed = ", ".join(f"{name.name} ({name.detail})" for name in refused[:5])
        raise Refusal(RefusalKind.REJECTED_NAME, f"names that may not be issued: {listed}", names=refused)
    _check_common_name(request)


def _check_amount(request: IssuanceRequest) -> None:
    if not request.subject.rdns and not request.names:
        raise Refusal(RefusalKind.BAD_CSR, "the request names nobody: it has neither a subject nor a subjectAltName")
    if len(request.names) > MAX_NAMES:
        raise Refusal(RefusalKind.REJECTED_NAME, f"{len(request.names)} names are asked; {MAX_NAMES} is the most")


def _check_subject(subject: x509.Name, issuers: Issuers) -> None:
    attributes = tuple(subject)
    if len(attributes) > MAX_SUBJECT_ATTRIBUTES:
        why = f"the subject has {len(attributes)} attributes; {MAX_SUBJECT_ATTRIBUTES} is the most"
        raise Refusal(RefusalKind.REJECTED_NAME, why)
    for attribute in attributes:
        shown = attribute.rfc4514_attribute_name
        if attribute.oid not in SUBJECT_ATTRIBUTES:
            raise Refusal(RefusalKind.REJECTED_NAME, f"the subject may not have the attribute {shown}")
        # What a person cannot see names somebody else than it seems to: NUL, escapes, reversed or empty text.
        if not str(attribute.value).isprintable() or not str(attribute.value).strip():
            why = f"the subject's {shown} is blank or has characters that cannot be seen"
            raise Refusal(RefusalKind.REJECTED_NAME, why)
    if len(subject.get_attributes_for_oid(NameOID.COMMON_NAME)) > 1:
        raise Refusal(RefusalKind.REJECTED_NAME, "the subject has more than one common name")
    # A certificate whose subject is a CA's would be taken for that CA by whoever builds chains by name.
    wanted = dn.canonical(subject)
    if any(dn.canonical(issuer.certificate.subject) == wanted for issuer in issuers.all()):
        raise Refusal(RefusalKind.REJECTED_NAME, "the subject is the name of this certificate authority")


def _refused_names(request: IssuanceRequest, profile: Profile) -> list[RefusedName]:
    refused = []
    for name in request.names:
        if name.kind not in profile.name_kinds:
            why, kind = f"the profile has no {name.kind.value} names", RefusalKind.UNSUPPORTED_NAME
        elif not request.requester.grant.covers(name):
            why, kind = "not granted to this requester", RefusalKind.REJECTED_NAME
        else:
            continue
        refused.append(RefusedName(kind, name.kind.value, name.value, why))
    return refused


def _check_common_name(request: IssuanceRequest) -> None:
    """The common name is a name too: clients still read it, so it needs the same grant."""
    for attribute in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        if not common_name_granted(str(attribute.value), request.names, request.requester.grant):
            raise Refusal(
                RefusalKind.REJECTED_NAME,
                f"the common name {str(attribute.value)[:80]!r} is not granted to this requester",
            )


def common_name_granted(value: str, names: tuple[AltName, ...], grant: NameGrant) -> bool:
    """Whether the common name is one of the (granted) names of the certificate, or granted by itself."""
    folded = lower_ascii(value)
    if folded in grant.common_names or any(lower_ascii(name.value) == folded for name in names):
        return True
    return any(
        grant.covers(AltName(kind, folded)) for kind in AltNameKind if kind is not AltNameKind.DNS or _is_dns(folded)
    )


def _is_dns(text: str) -> bool:
    """Whether patterns for DNS names apply: they look at the end alone, and `other.org/x.example.com` ends well."""
    try:
        return parse_dns_name(text).value == text
    except Refusal:
        return False
