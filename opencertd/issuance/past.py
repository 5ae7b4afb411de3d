"""What a CA did before it came here: each entry of its index with its certificate, where that is kept, looked over.

The whole index is read and judged before anything of it is taken in. Meanwhile it is kept in a temporary file, so that
a long past needs little memory and the store's transaction waits for no judging.
"""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from opencertd.asn1 import dn
from opencertd.asn1.pkcs10 import known_names_of_certificate
from opencertd.errors import StartError
from opencertd.issuance.ca_directory import CaDirectory
from opencertd.issuance.openssl_index import IndexEntry, read_index
from opencertd.model.certificates import CertificateRecord, Revocation, RevocationReason
from opencertd.model.names import AltName, AltNameKind

IMPORTED = "imported"
"""The profile under which certificates of another time are recorded."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class PastCertificate:
    """A certificate that a CA issued elsewhere.

    `not_before`, `spki_sha256`, `names` and `certificate_der` are None or empty when only the index knows of it.
    """

    serial: int
    subject: str  # RFC 4514
    not_after: datetime
    revocation: Revocation | None = None
    names: tuple[AltName, ...] = ()
    not_before: datetime | None = None
    spki_sha256: str = ""
    certificate_der: bytes | None = None
    profile: str = IMPORTED


def past_certificate(
    certificate: x509.Certificate, revocation: Revocation | None, profile: str = IMPORTED
) -> PastCertificate:
    """As the certificate itself says it."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return PastCertificate(
        serial=certificate.serial_number,
        subject=dn.format_dn(certificate.subject),
        not_after=certificate.not_valid_after_utc,
        revocation=revocation,
        names=known_names_of_certificate(certificate),
        not_before=certificate.not_valid_before_utc,
        spki_sha256=hashlib.sha256(spki).hexdigest(),
        certificate_der=certificate.public_bytes(Encoding.DER),
        profile=profile,
    )


def filled_in(record: CertificateRecord, certificate: x509.Certificate) -> CertificateRecord:
    """The record of a certificate that was imported without its bytes, now that somebody shows them."""
    return replace(
        record,
        subject=dn.format_dn(certificate.subject),
        names=known_names_of_certificate(certificate),
        not_before=certificate.not_valid_before_utc,
        certificate_der=certificate.public_bytes(Encoding.DER),
    )


@dataclass
class Past:
    """A judged past, in order; may be read any number of times. `index_sha256`: of the index's bytes."""

    spool: Spool
    index_sha256: str = ""
    certificates: int = 0
    revoked: int = 0
    without_certificate: int = 0

    def __iter__(self) -> Iterator[PastCertificate]:
        return iter(self.spool)

    def close(self) -> None:
        """Let go of the temporary file."""
        self.spool.close()


def read_past(directory: CaDirectory, issuer: x509.Certificate, own_profile: str) -> Past:
    """The whole past of `issuer` in its directory; `own_profile` is what its own certificate is recorded under.

    Raises StartError that names the line, when one is malformed, a serial number comes twice, or a certificate's file
    holds another certificate or one that this CA did not sign.
    """
    lines: dict[int, int] = {}
    past = Past(Spool())
    try:
        with directory.index.open("rb") as file:
            for entry in read_index(file, str(directory.index)):
                first = lines.setdefault(entry.serial, entry.line)
                if first != entry.line:
                    raise _at(directory, entry, f"the serial number {entry.serial:X} stands in line {first} too")
                _note(past, _judged(directory, entry, issuer, own_profile))
        with directory.index.open("rb") as file:
            past.index_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        past.close()
        raise StartError(f"cannot read {error.filename}: {error.strerror}") from None
    except BaseException:
        past.close()
        raise
    return past


def _note(past: Past, certificate: PastCertificate) -> None:
    past.spool.add(certificate)
    past.certificates += 1
    past.revoked += certificate.revocation is not None
    past.without_certificate += certificate.certificate_der is None


def _judged(directory: CaDirectory, entry: IndexEntry, issuer: x509.Certificate, own_profile: str) -> PastCertificate:
    by_index = PastCertificate(entry.serial, entry.subject, entry.not_after, entry.revocation)
    found = directory.certificate_of(entry.serial)
    if found is None:
        own = entry.serial == issuer.serial_number and entry.not_after == issuer.not_valid_after_utc
        return past_certificate(issuer, entry.revocation, own_profile) if own else by_index
    file, certificate = found
    if certificate.serial_number != entry.serial:
        raise _at(directory, entry, f"{file} holds the certificate {certificate.serial_number:X} and not this one")
    try:
        certificate.verify_directly_issued_by(issuer)
    except UnsupportedAlgorithm:  # MD5 and the like: what nobody can verify is not worth keeping
        return by_index
    except Exception:
        why = (
            f"the certificate in {file} was not signed by this CA's key. Is it another CA's, or from before a renewal?"
        )
        raise _at(directory, entry, why) from None
    profile = own_profile if certificate == issuer else IMPORTED
    try:
        return past_certificate(certificate, entry.revocation, profile)
    except (ValueError, UnsupportedAlgorithm):
        return by_index  # a key or a name that cannot be read here; its status still holds


def _at(directory: CaDirectory, entry: IndexEntry, why: str) -> StartError:
    return StartError(f"{directory.index}, line {entry.line}: {why}")


class Spool:
    """Certificates in a temporary file, in the order in which they were added."""

    def __init__(self, directory: Path | None = None) -> None:
        self._file = tempfile.TemporaryFile("w+", encoding="ascii", dir=directory)  # noqa: SIM115  (closed by `close`)

    def add(self, certificate: PastCertificate) -> None:
        """Keep one more."""
        self._file.write(json.dumps(_row(certificate), separators=(",", ":")) + "\n")

    def __iter__(self) -> Iterator[PastCertificate]:
        self._file.seek(0)
        return (_certificate(json.loads(line)) for line in self._file)

    def close(self) -> None:
        """Remove the file."""
        self._file.close()


def _row(one: PastCertificate) -> list[Any]:
    revocation = one.revocation
    der = one.certificate_der
    return [
        one.serial,
        one.subject,
        _seconds(one.not_after),
        revocation and [_seconds(revocation.revoked_at), int(revocation.reason), _seconds(revocation.invalidity_date)],
        [[name.kind.value, name.value] for name in one.names],
        _seconds(one.not_before),
        one.spki_sha256,
        None if der is None else base64.b64encode(der).decode(),
        one.profile,
    ]


def _certificate(row: list[Any]) -> PastCertificate:
    serial, subject, not_after, revocation, names, not_before, spki_sha256, der, profile = row
    return PastCertificate(
        serial=serial,
        subject=subject,
        not_after=_EPOCH + timedelta(seconds=not_after),
        revocation=None if revocation is None else _revocation(*revocation),
        names=tuple(AltName(AltNameKind(kind), value) for kind, value in names),
        not_before=_moment(not_before),
        spki_sha256=spki_sha256,
        certificate_der=None if der is None else base64.b64decode(der),
        profile=profile,
    )


def _revocation(revoked_at: int, reason: int, since: int | None) -> Revocation:
    return Revocation(_EPOCH + timedelta(seconds=revoked_at), RevocationReason(reason), _moment(since))


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // timedelta(seconds=1)


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else _EPOCH + timedelta(seconds=seconds)


def spooled(certificates: Iterable[PastCertificate]) -> Past:
    """A past of these, for a CA that comes without an index."""
    past = Past(Spool())
    for one in certificates:
        _note(past, one)
    return past
