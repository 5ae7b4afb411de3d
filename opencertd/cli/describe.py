"""A certificate as rows of words for a person; nothing in a certificate can make it fail or steer the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from opencertd.asn1.dn import format_dn
from opencertd.cli.keys import describe_key

_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)
_PURPOSES = {
    ExtendedKeyUsageOID.SERVER_AUTH: "TLS server",
    ExtendedKeyUsageOID.CLIENT_AUTH: "TLS client",
    ExtendedKeyUsageOID.CODE_SIGNING: "code signing",
    ExtendedKeyUsageOID.EMAIL_PROTECTION: "e-mail",
    ExtendedKeyUsageOID.TIME_STAMPING: "time stamping",
    ExtendedKeyUsageOID.OCSP_SIGNING: "OCSP signing",
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE: "any",
    x509.ObjectIdentifier("1.3.6.1.5.5.7.3.27"): "CMC CA",
    x509.ObjectIdentifier("1.3.6.1.5.5.7.3.28"): "CMC registration authority",
}


def purpose(oid: x509.ObjectIdentifier) -> str:
    """An extended key usage in words; its OID when it has no words."""
    return _PURPOSES.get(oid, oid.dotted_string)


@dataclass(frozen=True)
class Row:
    """A label and its values, one or more."""

    label: str
    values: tuple[str, ...]


def describe(certificate: x509.Certificate, now: datetime) -> tuple[Row, ...]:
    """The rows of one certificate, as of `now`."""
    rows = [
        _row("Subject", _dn(lambda: certificate.subject)),
        _row("Issuer", _dn(lambda: certificate.issuer)),
        _row("Serial", f"{certificate.serial_number:x}"),
        _row("Valid from", _moment(certificate.not_valid_before_utc)),
        _row("Valid until", f"{_moment(certificate.not_valid_after_utc)} ({_remaining(certificate, now)})"),
        _row("Key", _key(certificate)),
        _row("Signature", _signature(certificate)),
    ]
    try:
        for extension in certificate.extensions:
            rows.extend(_extension(extension))
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        rows.append(_row("Extensions", f"cannot be read: {error}"))
    rows.append(_row("SHA-256", certificate.fingerprint(SHA256()).hex(":").upper()))
    return tuple(row for row in rows if row.values)


def title(certificate: x509.Certificate) -> str:
    """What to call a certificate in a sentence: its subject, or else its first name."""
    rows = {row.label: row.values[0] for row in describe(certificate, certificate.not_valid_before_utc)}
    return rows["Subject"] if certificate.subject.rdns else rows.get("Names", "nobody")


def _row(label: str, *values: str) -> Row:
    return Row(label, tuple("".join(c if c.isprintable() else "?" for c in value) for value in values if value))


def _dn(get: Callable[[], x509.Name]) -> str:
    try:
        return format_dn(get()) or "(empty)"
    except ValueError as error:
        return f"cannot be read: {error}"


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _remaining(certificate: x509.Certificate, now: datetime) -> str:
    if now < certificate.not_valid_before_utc:
        return "NOT VALID YET"
    left = certificate.not_valid_after_utc - now
    if left < timedelta(0):
        return f"EXPIRED {_span(-left)} ago"
    return f"{_span(left)} left"


def _span(length: timedelta) -> str:
    for unit, seconds in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = int(length.total_seconds() // seconds)
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"


def _key(certificate: x509.Certificate) -> str:
    try:
        return describe_key(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return f"of an unsupported kind ({certificate.public_key_algorithm_oid.dotted_string})"


def _signature(certificate: x509.Certificate) -> str:
    oid = certificate.signature_algorithm_oid
    name: str = getattr(oid, "_name", "")
    return oid.dotted_string if name in {"", "Unknown OID"} else name


def _extension(extension: x509.Extension[x509.ExtensionType]) -> Iterator[Row]:
    value = extension.value
    if isinstance(value, x509.SubjectAlternativeName):
        yield _row("Names", *_names(value))
    elif isinstance(value, x509.BasicConstraints):
        limit = "" if value.path_length is None else f", at most {value.path_length} CAs below"
        yield _row("CA", f"yes{limit}" if value.ca else "no")
    elif isinstance(value, x509.KeyUsage):
        yield _row("Key usage", ", ".join(use.replace("_", " ") for use in _KEY_USAGES if getattr(value, use)))
    elif isinstance(value, x509.ExtendedKeyUsage):
        yield _row("Purpose", ", ".join(purpose(oid) for oid in value))
    elif isinstance(value, x509.SubjectKeyIdentifier):
        yield _row("Subject key id", value.digest.hex(":").upper())
    elif isinstance(value, x509.AuthorityKeyIdentifier):
        yield _row("Issuer key id", value.key_identifier.hex(":").upper() if value.key_identifier else "")
    elif isinstance(value, x509.AuthorityInformationAccess):
        yield from _access(value)
    elif isinstance(value, x509.CRLDistributionPoints):
        yield _row("CRL", *(text for point in value for text in _names(point.full_name or ())))
    else:
        critical = ", critical" if extension.critical else ""
        yield _row("Extension", f"{extension.oid.dotted_string}{critical}")


def _access(value: x509.AuthorityInformationAccess) -> Iterator[Row]:
    for label, method in (
        ("OCSP", AuthorityInformationAccessOID.OCSP),
        ("CA certificate", AuthorityInformationAccessOID.CA_ISSUERS),
    ):
        yield _row(label, *_names(one.access_location for one in value if one.access_method == method))


def _names(names: Iterable[x509.GeneralName]) -> Iterator[str]:
    for name in names:
        if isinstance(name, x509.UniformResourceIdentifier):
            yield f"uri:{name.value}"
        elif isinstance(name, x509.DNSName):
            yield f"dns:{name.value}"
        elif isinstance(name, x509.IPAddress):
            yield f"ip:{name.value}"
        elif isinstance(name, x509.RFC822Name):
            yield f"email:{name.value}"
        elif isinstance(name, x509.DirectoryName):
            yield f"dn:{format_dn(name.value)}"
        else:
            yield f"other:{type(name).__name__}"
