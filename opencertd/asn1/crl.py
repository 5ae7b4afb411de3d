"""CRLs version 2 written by hand, in time linear in their entries (RFC 5280 §5).

`cryptography`'s builder is quadratic in entries; a million of them take about two seconds here.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from opencertd.asn1 import der
from opencertd.model.certificates import Revocation, RevocationReason

_VERSION_2 = der.integer(1)
_AUTHORITY_KEY_IDENTIFIER = der.oid("2.5.29.35")
_CRL_NUMBER = der.oid("2.5.29.20")
_REASON_CODE = der.oid("2.5.29.21")
_INVALIDITY_DATE = der.oid("2.5.29.24")


def _entry_extensions(code: int, invalidity_date: datetime | None = None) -> bytes:
    """crlEntryExtensions with reason and invalidity date (RFC 5280 §5.3.1, §5.3.2).

    Unspecified is said by saying nothing.
    """
    extensions = b""
    if code != RevocationReason.UNSPECIFIED:
        extensions += der.sequence(_REASON_CODE, der.octet_string(der.enumerated(code)))
    if invalidity_date is not None:
        extensions += der.sequence(_INVALIDITY_DATE, der.octet_string(der.generalized_time(invalidity_date)))
    return der.sequence(extensions) if extensions else b""


_ENTRY_EXTENSIONS = tuple(_entry_extensions(code) for code in range(max(RevocationReason) + 1))
"""By reason code; a tuple because an enum's hash is Python code, and this is asked a million times."""


def encode_entries(entries: Iterable[tuple[int, Revocation]]) -> bytes:
    """The content of revokedCertificates: serial, dates and reason of each entry, in the given order.

    `serial`: positive, at most 20 octets (RFC 5280 §4.1.2.2), so that every length fits one octet.
    """
    times: dict[datetime, bytes] = {}  # many are revoked in the same second when many are revoked
    encoded = []
    for serial, revocation in entries:
        moment = times.get(revocation.revoked_at)
        if moment is None:
            moment = times[revocation.revoked_at] = der.time(revocation.revoked_at)
        if revocation.invalidity_date is None:
            rest = moment + _ENTRY_EXTENSIONS[revocation.reason]
        else:
            rest = moment + _entry_extensions(revocation.reason, revocation.invalidity_date)
        size = serial.bit_length() // 8 + 1
        encoded.append(b"\x30%c\x02%c%b%b" % (2 + size + len(rest), size, serial.to_bytes(size, "big"), rest))
    return b"".join(encoded)


def encode_tbs_cert_list(
    *,
    algorithm_der: bytes,
    issuer_der: bytes,
    authority_key_identifier: bytes,
    number: int,
    this_update: datetime,
    next_update: datetime,
    entries_der: bytes,
) -> bytes:
    """TBSCertList with cRLNumber and authorityKeyIdentifier.

    `algorithm_der`: AlgorithmIdentifier of the signature to come. `issuer_der`: the issuer's subject, byte for byte.
    `authority_key_identifier`: its subjectKeyIdentifier. `entries_der`: from `encode_entries`, may be empty.
    """
    key_identifier = der.sequence(der.tlv(0x80, authority_key_identifier))
    extensions = der.sequence(
        der.sequence(_AUTHORITY_KEY_IDENTIFIER, der.octet_string(key_identifier)),
        der.sequence(_CRL_NUMBER, der.octet_string(der.integer(number))),
    )
    return der.sequence(
        _VERSION_2,
        algorithm_der,
        issuer_der,
        der.time(this_update),
        der.time(next_update),
        der.tlv(der.SEQUENCE, entries_der) if entries_der else b"",
        der.explicit(0, extensions),
    )
