"""OCSP requests read and responses written by hand, so that one answer costs microseconds (RFC 6960, RFC 9654).

`cryptography` reads one CertID per request and writes one SingleResponse; here there may be several of each.
"""

from __future__ import annotations

import enum
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from opencertd.asn1 import der
from opencertd.asn1.certificate import subject_and_key
from opencertd.asn1.fields import Fields
from opencertd.asn1.ocsp_wishes import Preference, RequestSignature, read_preferences, read_signature
from opencertd.errors import Refusal, RefusalKind
from opencertd.model.certificates import Revocation, RevocationReason

MOST_CERT_IDS = 32
LARGEST_REQUEST = 16384
"""Octets: room for `MOST_CERT_IDS` SHA-512 CertIDs and a signature with its chain."""

_BOOLEAN = 0x01
_NONCE = der.oid("1.3.6.1.5.5.7.48.1.2")
_PREFERRED_SIGNATURE_ALGORITHMS = der.oid("1.3.6.1.5.5.7.48.1.8")
_ACCEPTABLE_RESPONSES = der.oid("1.3.6.1.5.5.7.48.1.4")
_SERVICE_LOCATOR = der.oid("1.3.6.1.5.5.7.48.1.7")
_KNOWN = frozenset({_NONCE, _PREFERRED_SIGNATURE_ALGORITHMS, _ACCEPTABLE_RESPONSES})
_KNOWN_OF_ONE = frozenset({_SERVICE_LOCATOR})
"""Where to ask about this one certificate: here is where that was asked, and the answer is this CA's own."""
_ARCHIVE_CUTOFF = der.oid("1.3.6.1.5.5.7.48.1.6")
_EXTENDED_REVOKE = der.sequence(der.oid("1.3.6.1.5.5.7.48.1.9"), der.octet_string(der.null()))
_BASIC = der.oid("1.3.6.1.5.5.7.48.1.1")

_NONCE_HEADS = {
    size: der.explicit(2, der.sequence(der.sequence(_NONCE, der.octet_string(der.octet_string(bytes(size))))))[:-size]
    for size in range(1, 101)
}
"""What stands before a nonce of so many octets, from the end of the CertIDs: always as many."""

HASH_NAMES = ("sha1", "sha256", "sha384", "sha512")
_HASHES_BY_OID = {
    der.oid("1.3.14.3.2.26"): "sha1",
    der.oid("2.16.840.1.101.3.4.2.1"): "sha256",
    der.oid("2.16.840.1.101.3.4.2.2"): "sha384",
    der.oid("2.16.840.1.101.3.4.2.3"): "sha512",
}


@dataclass(frozen=True)
class CertId:
    """Which certificate is meant. `hash_name`: one of HASH_NAMES, or None for a hash this CA does not compute.

    `der`: the exact bytes, which the response repeats.
    """

    der: bytes
    hash_name: str | None
    name_hash: bytes
    key_hash: bytes
    serial: int


@dataclass(frozen=True)
class OcspRequest:
    """What a request asks: 1 to `MOST_CERT_IDS` CertIDs, and the nonce to be echoed if it had one.

    `insists`: its nonce is critical. `preferences`: how the answer had best be signed. `signature`: not verified yet.
    """

    cert_ids: tuple[CertId, ...]
    nonce: bytes | None
    insists: bool = False
    preferences: tuple[Preference, ...] = ()
    signature: RequestSignature | None = None


class ResponseStatus(enum.IntEnum):
    """OCSPResponseStatus (RFC 6960 §4.2.1)."""

    SUCCESSFUL = 0
    MALFORMED_REQUEST = 1
    INTERNAL_ERROR = 2
    TRY_LATER = 3
    SIG_REQUIRED = 5
    UNAUTHORIZED = 6


class CertStatus(enum.Enum):
    """CertStatus without content; the value is its DER. The third, revoked, is a `Revocation`."""

    GOOD = b"\x80\0"
    UNKNOWN = b"\x82\0"


def simple_cert_id(data: bytes) -> bytes | None:
    """The CertID's bytes when `data` is the request of nearly all clients: one CertID, no extension, no signature.

    Then each of the four headers around the CertID spans all that follows it. None for every other request. The
    CertID itself is not looked into: this is for finding an answer prepared for exactly these bytes.
    """
    size = len(data)
    if not 10 <= size < 0x82 or data[0:8:2] != b"\x30\x30\x30\x30":
        return None
    if (data[1], data[3], data[5], data[7]) != (size - 2, size - 4, size - 6, size - 8):
        return None
    return data[8:]


def nonced_cert_id(data: bytes) -> tuple[bytes, bytes] | None:
    """The CertID's bytes and the nonce when `data` is as nearly all clients ask that send one: that extension and no
    other, not critical, of at most 100 octets. None for every other request.
    """
    start = data.rfind(_NONCE) - 6
    at = start + 21
    if not 10 <= start < 0x100 or data[start:at] != _NONCE_HEADS.get(len(data) - at):
        return None
    head = _head_before(start, len(data))
    return (data[len(head) : start], data[at:]) if head and data.startswith(head) else None


@functools.lru_cache(maxsize=4096)
def _head_before(stop: int, size: int) -> bytes:
    """How a request of `size` octets begins whose only CertID ends at `stop`; nothing when there is none like that."""
    for cert_id_size in range(max(0, stop - 16), stop - 7):
        requests = der.sequence(der.sequence(bytes(cert_id_size)))
        request = der.sequence(der.sequence(requests, bytes(size - stop)))
        if len(request) == size:
            return request[: stop - cert_id_size]
    return b""


def parse_request(data: bytes) -> OcspRequest:
    """The request in DER. Refusal MALFORMED for anything else, critical extensions that are not known, more than
    `MOST_CERT_IDS` CertIDs, nonces that are not 1 to 128 octets (RFC 9654 §2.1), and signers who do not say who they
    are.
    """
    try:
        if len(data) > LARGEST_REQUEST:
            raise der.DerError(f"it is larger than {LARGEST_REQUEST} octets")
        return _request(data)
    except der.DerError as error:
        raise Refusal(RefusalKind.MALFORMED, f"not an OCSP request that can be answered: {error}") from None


def _request(data: bytes) -> OcspRequest:
    parts = Fields(data, der.read_only(data, der.SEQUENCE))
    whole = parts.take(der.SEQUENCE)
    signature = parts.skip(0xA0)
    parts.end()
    tbs = Fields(data, whole)
    version = tbs.skip(0xA0)
    if version is not None and version.content(data) != b"\x02\x01\0":
        raise der.DerError("its version is not 1")
    requestor = tbs.skip(0xA1)
    requests = der.children(data, tbs.take(der.SEQUENCE))
    if not 1 <= len(requests) <= MOST_CERT_IDS:
        raise der.DerError(f"it asks for {len(requests)} certificates, not 1 to {MOST_CERT_IDS}")
    extensions = _extensions(data, tbs.skip(0xA2), _KNOWN)
    tbs.end()
    nonce = extensions.get(_NONCE)
    preferred = extensions.get(_PREFERRED_SIGNATURE_ALGORITHMS)
    return OcspRequest(
        cert_ids=tuple(_single_request(data, element) for element in requests),
        nonce=None if nonce is None else _nonce(nonce.value),
        insists=nonce is not None and nonce.critical,
        preferences=() if preferred is None else read_preferences(preferred.value),
        signature=None if signature is None else read_signature(data, signature, whole, requestor),
    )


def _single_request(data: bytes, element: der.Element) -> CertId:
    parts = Fields(data, element)
    cert_id = parts.take(der.SEQUENCE)
    _extensions(data, parts.skip(0xA0), _KNOWN_OF_ONE)
    parts.end()
    return _cert_id(data, cert_id)


def parse_cert_id(data: bytes) -> CertId:
    """A CertID in DER. Raises DerError."""
    return _cert_id(data, der.read_only(data, der.SEQUENCE))


def _cert_id(data: bytes, cert_id: der.Element) -> CertId:
    fields = Fields(data, cert_id)
    algorithm = Fields(data, fields.take(der.SEQUENCE))
    hash_oid = algorithm.take(der.OID)
    null = algorithm.skip(der.NULL)  # its parameters, absent or NULL
    if null is not None and null.content(data):
        raise der.DerError("a NULL has content")
    algorithm.end()
    name_hash = fields.take(der.OCTET_STRING)
    key_hash = fields.take(der.OCTET_STRING)
    serial = fields.take(der.INTEGER)
    fields.end()
    digits = serial.content(data)
    if not digits or (digits[0] in (0x00, 0xFF) and digits[1:2] and digits[0] >> 7 == digits[1] >> 7):
        raise der.DerError("a serial number is not in DER")  # X.690 §8.3.2; the answer would repeat it
    return CertId(
        der=cert_id.raw(data),
        hash_name=_HASHES_BY_OID.get(hash_oid.raw(data)),
        name_hash=name_hash.content(data),
        key_hash=key_hash.content(data),
        serial=int.from_bytes(digits, "big", signed=True),
    )


class _Extension(NamedTuple):
    value: bytes
    critical: bool


def _extensions(data: bytes, tagged: der.Element | None, known: frozenset[bytes]) -> dict[bytes, _Extension]:
    """The extensions inside an explicit tag, by their OIDs in DER. Raises DerError for critical ones not `known`."""
    if tagged is None:
        return {}
    inner = der.children(data, tagged)
    if len(inner) != 1 or inner[0].tag != der.SEQUENCE:
        raise der.DerError("its extensions are not one SEQUENCE")
    found: dict[bytes, _Extension] = {}
    for element in der.children(data, inner[0]):
        parts = Fields(data, element)
        oid = parts.take(der.OID).raw(data)
        flag = parts.skip(_BOOLEAN)
        critical = flag is not None and flag.content(data) != b"\0"
        value = parts.take(der.OCTET_STRING).content(data)
        parts.end()
        if oid in found:
            raise der.DerError("an extension stands twice")
        if critical and oid not in known:
            raise der.DerError("an extension is critical and not known")
        found[oid] = _Extension(value, critical)
    return found


def _nonce(value: bytes) -> bytes:
    element = der.read_only(value, der.OCTET_STRING)
    if not 1 <= element.end - element.content_start <= 128:
        raise der.DerError("its nonce is not 1 to 128 octets")
    return element.content(value)


def hash_issuer(certificate_der: bytes, hash_name: str) -> tuple[bytes, bytes]:
    """issuerNameHash and issuerKeyHash of an issuer's certificate under one of HASH_NAMES."""
    name, key = subject_and_key(certificate_der)
    return hashlib.new(hash_name, name).digest(), hashlib.new(hash_name, key).digest()


def cert_id_heads(hash_name: str, name_hash: bytes, key_hash: bytes) -> tuple[bytes, ...]:
    """What CertIDs of one issuer hold before the serial, under one of HASH_NAMES: its parameters NULL, and absent."""
    (oid,) = (oid for oid, name in _HASHES_BY_OID.items() if name == hash_name)
    hashed = der.octet_string(name_hash) + der.octet_string(key_hash)
    return der.sequence(oid, der.null()) + hashed, der.sequence(oid) + hashed


def responder_id(certificate_der: bytes, *, by_name: bool = False) -> bytes:
    """ResponderID in DER: the SHA-1 of the public key's bits, whatever else is used (RFC 6960 §4.2.1), or the name."""
    name, key = subject_and_key(certificate_der)
    if by_name:
        return der.explicit(1, name)
    return der.explicit(2, der.octet_string(hashlib.sha1(key).digest()))  # noqa: S324  (an identifier, by definition)


_time = functools.lru_cache(maxsize=1024)(der.generalized_time)
"""Thousands of answers are given within one second, and formatting a date costs as much as the rest of them."""


def encode_status(status: CertStatus | Revocation) -> bytes:
    """CertStatus. An unspecified reason is left out, as in CRLs."""
    return status.value if isinstance(status, CertStatus) else _revoked(status)


def encode_single_response(
    cert_id_der: bytes,
    status_der: bytes,
    this_update: datetime,
    next_update: datetime,
    archive_cutoff: datetime | None = None,
) -> bytes:
    """SingleResponse, where wanted with since when revocations of expired certificates are told (§4.4.4)."""
    extensions = b"" if archive_cutoff is None else _archive_cutoff(archive_cutoff)
    return der.sequence(cert_id_der, status_der, _time(this_update), der.explicit(0, _time(next_update)), extensions)


@functools.lru_cache(maxsize=64)
def _archive_cutoff(since: datetime) -> bytes:
    extension = der.sequence(_ARCHIVE_CUTOFF, der.octet_string(_time(since)))
    return der.explicit(1, der.sequence(extension))


def _revoked(revocation: Revocation) -> bytes:
    content = _time(revocation.revoked_at)
    if revocation.reason is not RevocationReason.UNSPECIFIED:
        content += der.explicit(0, der.enumerated(revocation.reason))
    return der.tlv(0xA1, content)


def encode_response_data(
    responder_id_der: bytes,
    produced_at: datetime,
    responses: Sequence[bytes],
    nonce: bytes | None,
    *,
    extended_revoke: bool = False,
) -> bytes:
    """ResponseData to be signed; `responses` are encoded SingleResponses. `extended_revoke`: one of them says revoked
    of what was never issued, and the extension of §4.4.8 that it does.
    """
    extensions = b"" if nonce is None else der.sequence(_NONCE, der.octet_string(der.octet_string(nonce)))
    if extended_revoke:
        extensions += _EXTENDED_REVOKE
    parts = [responder_id_der, _time(produced_at), der.sequence(*responses)]
    if extensions:
        parts.append(der.explicit(1, der.sequence(extensions)))
    return der.sequence(*parts)


def encode_response(response_data_der: bytes, algorithm_der: bytes, signature: bytes, certs_der: bytes) -> bytes:
    """OCSPResponse `successful` around a BasicOCSPResponse; `certs_der`, its last field, is what it ends with."""
    basic = der.sequence(response_data_der, algorithm_der, der.bit_string(signature), certs_der)
    response_bytes = der.sequence(_BASIC, der.octet_string(basic))
    return der.sequence(der.enumerated(ResponseStatus.SUCCESSFUL), der.explicit(0, response_bytes))


def encode_certs(*certificates_der: bytes) -> bytes:
    """The field `certs` of a BasicOCSPResponse."""
    return der.explicit(0, der.sequence(*certificates_der))


def encode_error(status: ResponseStatus) -> bytes:
    """OCSPResponse that carries a status only."""
    return der.sequence(der.enumerated(status))
