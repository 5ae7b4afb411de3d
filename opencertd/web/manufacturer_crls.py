"""What a manufacturer has revoked, by CRLs in files that somebody renews while the daemon runs (RFC 5280 §5, §6.3).

Every certificate below a root needs a current CRL of its issuer: where there is none, nobody is let in. A file that
becomes unreadable changes nothing until the CRLs it had are out of date.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from twisted.logger import Logger

from opencertd.asn1 import pem
from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.keys.signer import Elsewhere

LARGEST_FILE = 64 * 1024 * 1024
_UNREADABLE = (ValueError, TypeError, x509.DuplicateExtension, UnsupportedAlgorithm)

Crls = tuple[x509.CertificateRevocationList, ...]
_Stamp = tuple[tuple[int, int, int], ...]


class ManufacturerCrls:
    """The CRLs of some files, read again when one has changed. `elsewhere` takes that off the reactor."""

    _log = Logger()

    def __init__(self, files: Sequence[Path], elsewhere: Elsewhere[tuple[_Stamp, Crls] | None]) -> None:
        """Reads the files. Raises StartError that names the one at fault."""
        self._files = tuple(files)
        self._elsewhere = elsewhere
        self._stamp, self._crls = self._stamped(), self._read()

    async def check(self, chain: Sequence[x509.Certificate], now: datetime) -> None:
        """Refusal UNAUTHENTICATED when a certificate below the last one is revoked, UNAVAILABLE when nobody knows."""
        try:
            found = await self._elsewhere(self._changed)
        except (StartError, OSError) as error:
            self._log.error("the manufacturer's CRLs stay as they were: {why}", why=str(error))
            found = None
        if found is not None:
            self._stamp, self._crls = found
        for below, above in itertools.pairwise(chain):
            self._check_one(below, above, now)

    def _check_one(self, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> None:
        own = [crl for crl in self._crls if _is_by(crl, issuer)]
        # Revoked on any of them is revoked, be it out of date.
        if any(crl.get_revoked_certificate_by_serial_number(certificate.serial_number) for crl in own):
            raise Refusal(RefusalKind.UNAUTHENTICATED, "the manufacturer has revoked the client certificate")
        if not any(crl.last_update_utc <= now and crl.next_update_utc and now < crl.next_update_utc for crl in own):
            self._log.error("there is no current CRL by {issuer}", issuer=issuer.subject.rfc4514_string())
            raise Refusal(
                RefusalKind.UNAVAILABLE, "what the manufacturer has revoked is not known at present", retry_after=3600
            )

    def _changed(self) -> tuple[_Stamp, Crls] | None:
        stamp = self._stamped()
        return None if stamp == self._stamp else (stamp, self._read())

    def _stamped(self) -> _Stamp:
        try:
            found = [path.stat() for path in self._files]
        except OSError as error:
            raise StartError(f"the CRL {error.filename} cannot be read: {error.strerror}") from None
        return tuple((each.st_mtime_ns, each.st_size, each.st_ino) for each in found)

    def _read(self) -> Crls:
        return tuple(crl for path in self._files for crl in read_crls(path))


def read_crls(path: Path) -> Crls:
    """The CRLs of a file, in PEM or one in DER. Raises StartError that names the file. Blocks."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise StartError(f"the CRL {path} is larger than {LARGEST_FILE} bytes")
        data = path.read_bytes()
        blocks = [der for label, der in pem.parse_pem(data) if label == pem.CRL] if b"-----BEGIN" in data else [data]
        found = tuple(x509.load_der_x509_crl(der) for der in blocks)
        partial = any(map(_is_partial, found))
    except OSError as error:
        raise StartError(f"the CRL {path} cannot be read: {error.strerror}") from None
    except _UNREADABLE as error:
        raise StartError(f"the CRL {path} cannot be read: {error}") from None
    if not found:
        raise StartError(f"there is no PEM CRL in {path}")
    if partial:
        raise StartError(f"the CRL {path} is a delta, or does not say all that its issuer has revoked")
    return found


def _is_partial(crl: x509.CertificateRevocationList) -> bool:
    """Whether it has a critical extension, but for one that only says where it is published."""
    for extension in crl.extensions:
        value = extension.value
        if isinstance(value, x509.IssuingDistributionPoint) and value == x509.IssuingDistributionPoint(
            value.full_name, value.relative_name, False, False, None, False, False
        ):
            continue
        if extension.critical:
            return True
    return False


def _is_by(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    if crl.issuer != issuer.subject:
        return False
    try:
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # of other kinds it raises
    except (*_UNREADABLE, InvalidSignature):
        return False
