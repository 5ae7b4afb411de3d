"""Payloads of ACME requests → values. Unknown members are passed over, null is read as absent (RFC 8555 §7.3, §7.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from opencertd.acme.auto_renewal import AutoRenewal, parse_auto_renewal
from opencertd.acme.encoding import parse_object, parse_sloppy_b64
from opencertd.acme.jwk import AccountKey, parse_jwk
from opencertd.acme.states import is_below
from opencertd.acme.times import parse_time
from opencertd.errors import Refusal, RefusalKind, RefusedName
from opencertd.issuance.profiles import MAX_NAMES
from opencertd.model.certificates import FINAL_REASONS, RevocationReason
from opencertd.model.names import (
    AltName,
    parse_dns_name,
    parse_email,
    parse_hardware_module,
    parse_ip_address,
    parse_permanent_identifier,
)

_MAX_CONTACTS = 10
_PAYLOAD = "the payload"


@dataclass(frozen=True)
class NewAccount:
    """RFC 8555 §7.3. `contact` and `binding` as sent, not checked: they are ignored when the account exists."""

    contact: object
    terms_agreed: bool
    only_existing: bool
    binding: object


@dataclass(frozen=True)
class AccountUpdate:
    """RFC 8555 §7.3.2 and §7.3.6. `contact` is None when it stays."""

    contact: tuple[str, ...] | None
    deactivate: bool
    terms_agreed: bool = False


@dataclass(frozen=True)
class NewOrder:
    """RFC 8555 §7.4; `profile` as draft-ietf-acme-profiles-01 §4, `replaces` as RFC 9773 §5, `renewal` as RFC 8739.

    `ancestors`: for names whose client can prove a domain above instead, that domain (RFC 9444 §4.3).
    """

    names: tuple[AltName, ...]
    profile: str | None
    replaces: str | None
    ancestors: Mapping[AltName, AltName] = field(default_factory=dict)
    not_before: datetime | None = None
    not_after: datetime | None = None
    renewal: AutoRenewal | None = None


@dataclass(frozen=True)
class NewAuthorization:
    """RFC 8555 §7.4.1. `subdomains`: for the names below it too (RFC 9444 §4.2)."""

    name: AltName
    subdomains: bool


@dataclass(frozen=True)
class Revocation:
    """RFC 8555 §7.6."""

    certificate_der: bytes
    reason: RevocationReason


@dataclass(frozen=True)
class KeyChange:
    """RFC 8555 §7.3.5."""

    account_url: str
    old_key: AccountKey


def check_post_as_get(payload: bytes) -> None:
    """RFC 8555 §6.3: a read has an empty payload. Raises MALFORMED."""
    if payload:
        raise Refusal(RefusalKind.MALFORMED, "reading takes a POST-as-GET, whose payload is empty")


def parse_new_account(payload: bytes) -> NewAccount:
    """Raises MALFORMED."""
    document = parse_object(payload, _PAYLOAD)
    return NewAccount(
        contact=document.get("contact"),
        terms_agreed=document.get("termsOfServiceAgreed") is True,
        only_existing=document.get("onlyReturnExisting") is True,
        binding=document.get("externalAccountBinding"),
    )


def parse_account_update(payload: bytes) -> AccountUpdate:
    """An empty payload (POST-as-GET) changes nothing. Raises MALFORMED, INVALID_CONTACT, UNSUPPORTED_CONTACT."""
    if not payload:
        return AccountUpdate(None, deactivate=False)
    document = parse_object(payload, _PAYLOAD)
    contact = document.get("contact")
    return AccountUpdate(
        contact=None if contact is None else parse_contact(contact),
        deactivate=document.get("status") == "deactivated",  # any other status is to be ignored (§7.3.2)
        terms_agreed=document.get("termsOfServiceAgreed") is True,
    )


def parse_contact(value: object) -> tuple[str, ...]:
    """Contact URLs: `mailto:` with one address and no header fields. Raises as `parse_account_update`."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(url, str) for url in value):
        raise Refusal(RefusalKind.MALFORMED, "'contact' is not an array of strings")
    if len(value) > _MAX_CONTACTS:
        raise Refusal(RefusalKind.INVALID_CONTACT, f"more than {_MAX_CONTACTS} contacts")
    return tuple(_contact(url) for url in value)


def _contact(url: str) -> str:
    scheme, _, address = url.partition(":")
    if scheme.lower() != "mailto":
        raise Refusal(RefusalKind.UNSUPPORTED_CONTACT, f"{url[:80]!r} is not a mailto: URL; no other kind is taken")
    if "?" in address or "," in address:
        raise Refusal(RefusalKind.INVALID_CONTACT, f"{url[:80]!r} has header fields or more than one address")
    try:
        return f"mailto:{parse_email(address).value}"
    except Refusal as refusal:
        raise Refusal(RefusalKind.INVALID_CONTACT, refusal.detail) from None


def parse_new_order(payload: bytes) -> NewOrder:
    """The names in normal form, each once, as ordered; wildcards with their `*.` (RFC 8555 §7.4).

    Raises MALFORMED, UNSUPPORTED_NAME, REJECTED_NAME, with a name for each identifier that is at fault.
    """
    document = parse_object(payload, _PAYLOAD)
    identifiers = document.get("identifiers")
    names = _parse_identifiers(identifiers)
    renewal = parse_auto_renewal(document.get("auto-renewal"))
    if renewal is not None and (document.get("notBefore") or document.get("notAfter")):  # RFC 8739 §3.1.1
        raise Refusal(RefusalKind.MALFORMED, "notBefore and notAfter are for orders without 'auto-renewal'")
    return NewOrder(
        names,
        profile=_text(document, "profile"),
        replaces=_text(document, "replaces"),
        ancestors=_parse_ancestors(identifiers),
        not_before=_when(document, "notBefore"),
        not_after=_when(document, "notAfter"),
        renewal=renewal,
    )


def parse_new_authorization(payload: bytes) -> NewAuthorization:
    """Raises MALFORMED, UNSUPPORTED_NAME, REJECTED_NAME."""
    identifier = parse_object(payload, _PAYLOAD).get("identifier")
    (name,) = _parse_identifiers([identifier])
    if name.value.startswith("*."):  # RFC 8555 §7.4.1
        raise Refusal(RefusalKind.MALFORMED, "a wildcard is authorized by ordering it, not ahead")
    asked = isinstance(identifier, dict) and identifier.get("subdomainAuthAllowed") is True
    return NewAuthorization(name, subdomains=asked)


def _parse_ancestors(identifiers: object) -> dict[AltName, AltName]:
    """Of identifiers that were parsed. Raises MALFORMED; REJECTED_NAME for what is no domain name."""
    ancestors = {}
    for identifier in identifiers if isinstance(identifiers, list) else ():
        text = _text(identifier, "ancestorDomain")
        kind, value = _identifier_parts(identifier)
        if text is None or value.startswith("*."):  # a wildcard is proven by itself alone
            continue
        name, ancestor = _IDENTIFIERS[kind](value), parse_dns_name(text, wildcard=False)
        if not is_below(name, ancestor):
            raise Refusal(RefusalKind.MALFORMED, f"{name.value} is not below its 'ancestorDomain' {ancestor.value}")
        ancestors[name] = ancestor
    return ancestors


def _text(document: Mapping[str, object], member: str) -> str | None:
    """The member, if there is one. An empty text is none, as null is. Raises MALFORMED."""
    value = document.get(member)
    if value is not None and not isinstance(value, str):
        raise Refusal(RefusalKind.MALFORMED, f"{member!r} is not a string")
    return value or None


def _when(document: Mapping[str, object], member: str) -> datetime | None:
    text = _text(document, member)
    return None if text is None else parse_time(text, repr(member))


def _parse_identifiers(identifiers: object) -> tuple[AltName, ...]:
    if not isinstance(identifiers, list) or not identifiers:
        raise Refusal(RefusalKind.MALFORMED, "'identifiers' is not a non-empty array")
    if len(identifiers) > MAX_NAMES:
        raise Refusal(RefusalKind.REJECTED_NAME, f"{len(identifiers)} identifiers; {MAX_NAMES} is the most")
    names: dict[AltName, None] = {}
    refused: list[RefusedName] = []
    for identifier in identifiers:
        kind, value = _identifier_parts(identifier)
        parse = _IDENTIFIERS.get(kind)
        if parse is None:
            words = f"identifiers of type {kind[:40]!r} are not supported; {', '.join(map(repr, _IDENTIFIERS))} are"
            refused.append(RefusedName(RefusalKind.UNSUPPORTED_NAME, kind[:40], value[:260], words))
            continue
        try:
            names[parse(value)] = None
        except Refusal as refusal:
            refused.append(RefusedName(refusal.kind, kind, value[:260], refusal.detail))
    if refused:
        raise _refusal_of(refused)
    return tuple(names)


def _address(text: str) -> AltName:
    """An IP address as RFC 8738 §3 wants it spelled: IPv6 by RFC 5952."""
    name = parse_ip_address(text)
    if name.value != text:
        raise Refusal(RefusalKind.MALFORMED, f"{text[:80]!r} is not in canonical form; write {name.value}")
    return name


_IDENTIFIERS: Mapping[str, Callable[[str], AltName]] = {
    "dns": parse_dns_name,
    "ip": _address,
    "permanent-identifier": parse_permanent_identifier,
    "hardware-module": parse_hardware_module,
}


def _identifier_parts(identifier: object) -> tuple[str, str]:
    if isinstance(identifier, dict):
        kind, value = identifier.get("type"), identifier.get("value")
        if isinstance(kind, str) and isinstance(value, str):
            return kind, value
    raise Refusal(RefusalKind.MALFORMED, "an identifier is not an object with the strings 'type' and 'value'")


def _refusal_of(refused: list[RefusedName]) -> Refusal:
    kinds = {name.kind for name in refused}
    kind = kinds.pop() if len(kinds) == 1 else RefusalKind.MALFORMED
    first = refused[0].detail
    detail = first if len(refused) == 1 else f"{len(refused)} identifiers were refused; the first: {first}"
    return Refusal(kind, detail, names=tuple(refused))


def parse_deactivation(payload: bytes) -> bool:
    """Whether a POST to an authorization deactivates it (RFC 8555 §7.5.2) or only reads it. Raises MALFORMED."""
    if not payload:
        return False
    if parse_object(payload, _PAYLOAD).get("status") != "deactivated":
        raise Refusal(RefusalKind.MALFORMED, "the only change an authorization takes is the status 'deactivated'")
    return True


def parse_cancellation(payload: bytes) -> bool:
    """Whether a POST to an order cancels it (RFC 8739 §3.1.2) or only reads it. Raises MALFORMED."""
    if not payload:
        return False
    if parse_object(payload, _PAYLOAD).get("status") != "canceled":
        raise Refusal(RefusalKind.MALFORMED, "the only change an order takes is the status 'canceled'")
    return True


def parse_challenge_response(payload: bytes) -> bool:
    """Whether a POST to a challenge says it is ready (RFC 8555 §7.5.1: any object) or only reads. Raises MALFORMED."""
    if payload:
        parse_object(payload, _PAYLOAD)
    return bool(payload)


def parse_attestation(payload: bytes) -> bytes | None:
    """The attestation object of an answer to device-attest-01 (draft-ietf-acme-device-attest §5); None when it reads.

    Raises MALFORMED.
    """
    if not payload:
        return None
    statement = parse_object(payload, _PAYLOAD).get("attObj")
    if statement is None:
        raise Refusal(RefusalKind.MALFORMED, "device-attest-01 is answered with an attestation object in 'attObj'")
    return parse_sloppy_b64(statement, "'attObj'")


def parse_finalize(payload: bytes) -> bytes:
    """The CSR's DER (RFC 8555 §7.4). Raises MALFORMED, or BAD_CSR when it is not base64."""
    csr = parse_object(payload, _PAYLOAD).get("csr")
    try:
        return parse_sloppy_b64(csr, "'csr'")
    except Refusal as refusal:
        raise Refusal(RefusalKind.BAD_CSR, refusal.detail) from None


def parse_revocation(payload: bytes) -> Revocation:
    """Raises MALFORMED, BAD_REVOCATION_REASON."""
    document = parse_object(payload, _PAYLOAD)
    certificate_der = parse_sloppy_b64(document.get("certificate"), "'certificate'")
    reason = document.get("reason")
    if reason is None:
        return Revocation(certificate_der, RevocationReason.UNSPECIFIED)
    if type(reason) is not int or reason not in FINAL_REASONS:  # ACME has no way back from a hold
        usable = ", ".join(str(int(each)) for each in sorted(FINAL_REASONS))
        raise Refusal(RefusalKind.BAD_REVOCATION_REASON, f"the reason is not one of {usable}")
    return Revocation(certificate_der, RevocationReason(reason))


def parse_key_change(payload: bytes) -> KeyChange:
    """Raises MALFORMED, BAD_PUBLIC_KEY."""
    document = parse_object(payload, "the inner payload")
    url = document.get("account")
    if not isinstance(url, str):
        raise Refusal(RefusalKind.MALFORMED, "the inner payload has no 'account' URL")
    return KeyChange(url, parse_jwk(document.get("oldKey")))
