"""What a CRL says, and what is wrong with it, for a person who asks: any CA's, by somebody else's parser. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509

from opencertd.keys.kinds import PublicKey


@dataclass(frozen=True)
class Listed:
    """A certificate's entry."""

    revoked_at: datetime
    reason: str


@dataclass(frozen=True)
class Seen:
    """A CRL as read. `scope`: of which certificates it speaks, in words."""

    issuer: x509.Name
    number: int | None
    base: int | None
    this_update: datetime
    next_update: datetime | None
    entries: int
    scope: str
    points: tuple[str, ...]


def see(crl: x509.CertificateRevocationList) -> Seen:
    """What the CRL says of itself. Raises ValueError for extensions that cannot be read."""
    number = _value(crl, x509.CRLNumber)
    indicator = _value(crl, x509.DeltaCRLIndicator)
    point = _value(crl, x509.IssuingDistributionPoint)
    return Seen(
        issuer=crl.issuer,
        number=None if number is None else number.crl_number,
        base=None if indicator is None else indicator.crl_number,
        this_update=crl.last_update_utc,
        next_update=crl.next_update_utc,
        entries=len(crl),
        scope="all certificates of its issuer" if point is None else _scope(point),
        points=() if point is None else _uris(point.full_name),
    )


def _value(crl: x509.CertificateRevocationList, kind: type[x509.ExtensionType]) -> Any:
    try:
        return crl.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _scope(point: x509.IssuingDistributionPoint) -> str:
    only = [
        words
        for is_so, words in (
            (point.only_contains_ca_certs, "CA certificates"),
            (point.only_contains_user_certs, "end entities' certificates"),
            (point.only_contains_attribute_certs, "attribute certificates"),
            (point.indirect_crl, "several issuers' certificates"),
            (point.only_some_reasons is not None, "some reasons"),
        )
        if is_so
    ]
    named = "those that name it" if point.full_name or point.relative_name else ""
    return ", ".join(filter(None, ("only " + " and ".join(only) if only else "", named))) or "all certificates"


def _uris(names: list[x509.GeneralName] | None) -> tuple[str, ...]:
    return tuple(name.value for name in names or () if isinstance(name, x509.UniformResourceIdentifier))


def faults(crl: x509.CertificateRevocationList, issuer: x509.Certificate, now: datetime) -> Iterator[str]:
    """Why a client must not go by the CRL (RFC 5280 §6.3.3), each in words; nothing when it may."""
    if crl.issuer != issuer.subject:
        yield "it is of another issuer"
        return
    key = issuer.public_key()
    if not isinstance(key, PublicKey) or not _is_signed(crl, key):
        yield "its signature does not verify under the issuer's key"
    if crl.last_update_utc > now:
        yield f"it begins only at {crl.last_update_utc:%Y-%m-%d %H:%M:%S} UTC"
    if crl.next_update_utc is None:
        yield "it does not say when the next one comes"
    elif crl.next_update_utc <= now:
        yield f"it has ended at {crl.next_update_utc:%Y-%m-%d %H:%M:%S} UTC"
    try:
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.crl_sign:
        yield "its issuer's certificate does not allow to sign CRLs"


def _is_signed(crl: x509.CertificateRevocationList, key: PublicKey) -> bool:
    try:
        return crl.is_signature_valid(key)
    except (ValueError, TypeError):
        return False


def speaks_of(crl: x509.CertificateRevocationList, certificate: x509.Certificate) -> str | None:
    """None when the CRL speaks of the certificate, else why it does not."""
    if crl.issuer != certificate.issuer:
        return "another issuer signed the certificate"
    point = _value(crl, x509.IssuingDistributionPoint)
    if point is None:
        return None
    is_ca = _is_ca(certificate)
    if point.only_contains_ca_certs and not is_ca:
        return "it lists CA certificates only"
    if point.only_contains_user_certs and is_ca:
        return "it lists end entities' certificates only"
    if point.full_name and not set(_uris(point.full_name)) & set(_named_by(certificate)):
        return "the certificate names another CRL"
    return None


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _named_by(certificate: x509.Certificate) -> Iterator[str]:
    try:
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        return
    for point in points:
        yield from _uris(point.full_name)


def entry_of(crl: x509.CertificateRevocationList, serial: int) -> Listed | None:
    """The entry of that serial; one that a delta takes off the CRL has the reason `removeFromCRL`."""
    entry = crl.get_revoked_certificate_by_serial_number(serial)
    if entry is None:
        return None
    try:
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
    except x509.ExtensionNotFound:
        reason = "unspecified"
    return Listed(entry.revocation_date_utc, reason)
