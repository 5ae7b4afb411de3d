"""CRLs version 2 written by hand, in time linear in their entries (RFC 5280 §5).

`cryptography`'s builder is quadratic in entries; a million of them take about two seconds here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from opencertd.asn1 import der
from opencertd.model.certificates import Revocation, RevocationReason

_VERSION_2 = der.integer(1)
_AUTHORITY_KEY_IDENTIFIER = der.oid("2.5.29.35")
_CRL_NUMBER = der.oid("2.5.29.20")
_REASON_CODE = der.oid("2.5.29.21")
_DELTA_CRL_INDICATOR = der.oid("2.5.29.27")
_ISSUING_DISTRIBUTION_POINT = der.oid("2.5.29.28")
_FRESHEST_CRL = der.oid("2.5.29.46")
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


def encode_entry(serial: int, revocation: Revocation) -> bytes:
    """One entry of revokedCertificates. `serial`: positive, at most 20 octets (RFC 5280 §4.1.2.2).

    It is shorter than 128 octets, and so is each of its parts: every length is one octet.
    """
    if revocation.invalidity_date is None:
        extensions = _ENTRY_EXTENSIONS[revocation.reason]
    else:
        extensions = _entry_extensions(revocation.reason, revocation.invalidity_date)
    return der.sequence(der.integer(serial), der.time(revocation.revoked_at), extensions)


def encode_removed_entry(serial: int, revoked_at: datetime) -> bytes:
    """The entry of a delta CRL that takes a serial off the CRL (RFC 5280 §5.3.1, removeFromCRL)."""
    return encode_entry(serial, Revocation(revoked_at, RevocationReason.REMOVE_FROM_CRL))


def split_entries(block: bytes) -> Iterator[bytes]:
    """The entries in a block of whole ones. Raises DerError when it is none."""
    position, size = 0, len(block)
    while position < size:
        if size < position + 4 or block[position] != der.SEQUENCE or block[position + 2] != der.INTEGER:
            raise der.DerError("not a block of CRL entries")
        end = position + 2 + block[position + 1]
        if block[position + 1] >= 0x80 or end > size:
            raise der.DerError("a block of CRL entries ends within one")
        yield block[position:end]
        position = end


def entry_serials(block: bytes) -> Iterator[int]:
    """The serials in a block of whole entries. Raises DerError when it is none."""
    return (int.from_bytes(entry[4 : 4 + entry[3]], "big") for entry in split_entries(block))


def entries_at(crl_der: bytes) -> tuple[int, int]:
    """Where the entries of a CRL (version 2) lie in its bytes. Raises DerError."""
    tbs = der.read_tlv(crl_der, der.read_only(crl_der, der.SEQUENCE).content_start)
    fields = der.children(crl_der, tbs)
    # version, signature, issuer, thisUpdate, nextUpdate, revokedCertificates, extensions
    if len(fields) == 7 and fields[5].tag == der.SEQUENCE:
        return fields[5].content_start, fields[5].end
    if len(fields) == 6:
        return fields[5].start, fields[5].start
    raise der.DerError("not a CRL as this CA makes them")


@dataclass(frozen=True)
class Scope:
    """What a CRL says of itself beyond its issuer, number and dates.

    `points`: URLs that an issuingDistributionPoint names (RFC 5280 §5.2.5); `only`: `cas`, `users` or nothing.
    `base`: of a delta CRL, the number of the one on which it builds (§5.2.4). `freshest`: URLs of the delta (§5.2.6).
    """

    points: tuple[str, ...] = ()
    only: str = ""
    base: int | None = None
    freshest: tuple[str, ...] = ()


def _point_name(urls: tuple[str, ...]) -> bytes:
    names = b"".join(der.tlv(0x86, url.encode("ascii")) for url in urls)
    return der.explicit(0, der.explicit(0, names))


def _extension(identifier: bytes, value: bytes, *, critical: bool = False) -> bytes:
    return der.sequence(identifier, der.boolean(True) if critical else b"", der.octet_string(value))


def _scope_extensions(scope: Scope) -> bytes:
    found = b""
    if scope.base is not None:
        found += _extension(_DELTA_CRL_INDICATOR, der.integer(scope.base), critical=True)
    if scope.points or scope.only:
        point = _point_name(scope.points) if scope.points else b""
        only = {"users": b"\x81\x01\xff", "cas": b"\x82\x01\xff"}.get(scope.only, b"")
        found += _extension(_ISSUING_DISTRIBUTION_POINT, der.sequence(point, only), critical=True)
    if scope.freshest:
        found += _extension(_FRESHEST_CRL, der.sequence(der.sequence(_point_name(scope.freshest))))
    return found


def frame_tbs_cert_list(
    *,
    algorithm_der: bytes,
    issuer_der: bytes,
    authority_key_identifier: bytes,
    number: int,
    this_update: datetime,
    next_update: datetime,
    size: int,
    scope: Scope,
) -> tuple[bytes, bytes]:
    """What comes before and after the entries in a TBSCertList with cRLNumber, authorityKeyIdentifier and `scope`.

    `algorithm_der`: AlgorithmIdentifier of the signature to come. `issuer_der`: the issuer's subject, byte for byte.
    `authority_key_identifier`: its subjectKeyIdentifier. `size`: octets of all entries, which may be megabytes.
    """
    before = _VERSION_2 + algorithm_der + issuer_der + der.time(this_update) + der.time(next_update)
    if size:
        before += der.header(der.SEQUENCE, size)
    extensions = der.sequence(
        _extension(_AUTHORITY_KEY_IDENTIFIER, der.sequence(der.tlv(0x80, authority_key_identifier))),
        _extension(_CRL_NUMBER, der.integer(number)),
        _scope_extensions(scope),
    )
    after = der.explicit(0, extensions)
    return der.header(der.SEQUENCE, len(before) + size + len(after)) + before, after
