"""Certificate Transparency in bytes (RFC 6962 §3): precertificates, signed certificate timestamps, their extension.

Precertificate, certificate and the bytes that logs sign are one set of to-be-signed bytes with one extension more, or
none: here they are made from each other without touching anything else, and read again to see that this is so.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from opencertd.asn1 import der

POISON = "1.3.6.1.4.1.11129.2.4.3"
"""The critical extension that keeps a precertificate from being taken for a certificate (§3.1)."""

TIMESTAMPS = "1.3.6.1.4.1.11129.2.4.2"
"""The extension that holds a SignedCertificateTimestampList (§3.3)."""

V1 = 0
SHA256, RSA, ECDSA = 4, 1, 3
"""HashAlgorithm and SignatureAlgorithm of TLS 1.2 (RFC 5246 §7.4.1.4.1) that logs may use (RFC 6962 §2.1.4)."""

_CERTIFICATE_TIMESTAMP, _PRECERT_ENTRY = 0, 1
_EXTENSIONS = 0xA3
_POISON_DER = der.sequence(der.oid(POISON), der.boolean(True), der.octet_string(der.null()))


@dataclass(frozen=True)
class Timestamp:
    """A SignedCertificateTimestamp of version 1 (§3.2).

    `log_id`: SHA-256 of the log's SubjectPublicKeyInfo. `milliseconds` since 1970. `extensions`: CtExtensions, without
    their length. `signature`: made over `signed_bytes` by the algorithms `hash_algorithm` and `signature_algorithm`.
    """

    log_id: bytes
    milliseconds: int
    extensions: bytes
    hash_algorithm: int
    signature_algorithm: int
    signature: bytes

    @property
    def at(self) -> datetime:
        """When, as a time. Raises OverflowError for one that no calendar has."""
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self.milliseconds)

    def signed_bytes(self, issuer_spki_der: bytes, tbs_der: bytes) -> bytes:
        """What the log has signed: of a precertificate, `tbs_der` without the poison; and who will issue it."""
        return b"".join(
            (
                struct.pack(">BBQH", V1, _CERTIFICATE_TIMESTAMP, self.milliseconds, _PRECERT_ENTRY),
                hashlib.sha256(issuer_spki_der).digest(),
                len(tbs_der).to_bytes(3, "big"),
                tbs_der,
                _vector(self.extensions),
            )
        )

    def encoded(self) -> bytes:
        """As it stands in the list."""
        return b"".join(
            (
                struct.pack(">B32sQ", V1, self.log_id, self.milliseconds),
                _vector(self.extensions),
                bytes((self.hash_algorithm, self.signature_algorithm)),
                _vector(self.signature),
            )
        )


def parse_digitally_signed(data: bytes) -> tuple[int, int, bytes]:
    """Hash algorithm, signature algorithm and signature of a DigitallySigned (RFC 5246 §4.7). Raises ValueError."""
    if len(data) < 4 or int.from_bytes(data[2:4], "big") != len(data) - 4:
        raise ValueError("the signature is not a DigitallySigned of TLS")
    return data[0], data[1], data[4:]


def poisoned(tbs_der: bytes) -> bytes:
    """The precertificate's to-be-signed bytes for those of a certificate. Raises DerError."""
    return _with_extension(tbs_der, _POISON_DER)


def stamped(tbs_der: bytes, timestamps: tuple[Timestamp, ...]) -> bytes:
    """The final certificate's to-be-signed bytes. Raises DerError."""
    listed = _vector(b"".join(_vector(one.encoded()) for one in timestamps))
    value = der.octet_string(der.octet_string(listed))  # extnValue, and the OCTET STRING that §3.3 wants inside
    return _with_extension(tbs_der, der.sequence(der.oid(TIMESTAMPS), value))


def check_certified_alike(precertificate_tbs_der: bytes, tbs_der: bytes) -> None:
    """Raise ValueError unless the certificate is the precertificate with its poison replaced by timestamps (§3.1).

    Everything else must be the same, byte by byte and in the same order.
    """
    before, extensions_before = _parts(precertificate_tbs_der)
    after, extensions_after = _parts(tbs_der)
    if before != after:
        raise ValueError("a field of the certificate is not the precertificate's")
    poison = [one for one in extensions_before if _oid_of(one) == der.oid(POISON)]
    stamps = [one for one in extensions_after if _oid_of(one) == der.oid(TIMESTAMPS)]
    if poison != [_POISON_DER] or len(stamps) != 1:
        raise ValueError(
            "there must be one poison in the precertificate, and one list of timestamps in the certificate"
        )
    if [one for one in extensions_before if one not in poison] != [
        one for one in extensions_after if one not in stamps
    ]:
        raise ValueError("an extension of the certificate is not the precertificate's")


def _vector(content: bytes) -> bytes:
    """opaque<0..2^16-1> of TLS."""
    return len(content).to_bytes(2, "big") + content


def _split(tbs_der: bytes) -> tuple[list[der.Element], der.Element]:
    """The elements before the extensions, and the SEQUENCE OF Extension. Raises DerError."""
    fields = der.children(tbs_der, der.read_only(tbs_der, der.SEQUENCE))
    if not fields or fields[-1].tag != _EXTENSIONS:
        raise der.DerError("a TBSCertificate without extensions")
    inner = der.children(tbs_der, fields[-1])
    if [one.tag for one in inner] != [der.SEQUENCE]:
        raise der.DerError("the extensions are not one SEQUENCE")
    return list(fields[:-1]), inner[0]


def _parts(tbs_der: bytes) -> tuple[list[bytes], list[bytes]]:
    fields, extensions = _split(tbs_der)
    found = der.children(tbs_der, extensions)
    return [one.raw(tbs_der) for one in fields], [one.raw(tbs_der) for one in found]


def _oid_of(extension_der: bytes) -> bytes:
    return der.children(extension_der, der.read_only(extension_der, der.SEQUENCE))[0].raw(extension_der)


def _with_extension(tbs_der: bytes, extension_der: bytes) -> bytes:
    """With one extension more, at the end."""
    fields, extensions = _split(tbs_der)
    longer = der.sequence(extensions.content(tbs_der), extension_der)
    before = tbs_der[fields[0].start : fields[-1].end] if fields else b""
    return der.sequence(before, der.tlv(_EXTENSIONS, longer))
