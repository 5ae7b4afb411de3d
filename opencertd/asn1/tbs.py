"""A certificate's to-be-signed bytes, put together from parts that are encoded already (RFC 5280 §4.1.2)."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from opencertd.asn1 import der
from opencertd.asn1.other_names import encode_other_name
from opencertd.model.names import DEVICE_KINDS, AltName, AltNameKind

_VERSION_3 = der.explicit(0, der.integer(2))
_TIMES = functools.lru_cache(maxsize=64)(der.time)  # of the thousand certificates of a second most begin and end alike
_SUBJECT_KEY_IDENTIFIER = der.oid("2.5.29.14")
_SUBJECT_ALTERNATIVE_NAME = der.oid("2.5.29.17")
_CRL_DISTRIBUTION_POINTS = der.oid("2.5.29.31")
# [1] rfc822Name, [2] dNSName, [6] uniformResourceIdentifier, all IA5String, and [7] iPAddress (RFC 5280 §4.2.1.6)
_TAGS = {AltNameKind.EMAIL: 0x81, AltNameKind.DNS: 0x82, AltNameKind.URI: 0x86, AltNameKind.IP: 0x87}


@dataclass(frozen=True)
class TbsFields:
    """The fields of to-be-signed bytes, each with its header; `extensions` one by one, with their OIDs' DER."""

    algorithm_der: bytes
    issuer_der: bytes
    subject_der: bytes
    spki_der: bytes
    extensions: tuple[tuple[bytes, bytes], ...]


def read_tbs(tbs_der: bytes, *, extensions: bool = True) -> TbsFields:
    """The fields of a version 3 certificate with neither unique identifier. Raises DerError for anything else."""
    found = der.children(tbs_der, der.read_only(tbs_der, der.SEQUENCE))
    if len(found) != 8 or found[0].raw(tbs_der) != _VERSION_3 or found[7].tag != 0xA3:
        raise der.DerError("not a version 3 certificate with extensions")
    _, _, algorithm, issuer, _, subject, spki, last = (element.raw(tbs_der) for element in found)
    return TbsFields(algorithm, issuer, subject, spki, _read_extensions(last) if extensions else ())


def _read_extensions(field: bytes) -> tuple[tuple[bytes, bytes], ...]:
    (listed,) = der.children(field, der.read_only(field, 0xA3))
    return tuple(
        (der.children(field, extension)[0].raw(field), extension.raw(field))
        for extension in der.children(field, listed)
    )


def encode_tbs(
    *,
    serial: int,
    algorithm_der: bytes,
    issuer_der: bytes,
    not_before: datetime,
    not_after: datetime,
    subject_der: bytes,
    spki_der: bytes,
    extensions: bytes,
) -> bytes:
    """To-be-signed bytes of version 3. `extensions`: one encoded extension after the other."""
    return der.sequence(
        _VERSION_3,
        der.integer(serial),
        algorithm_der,
        issuer_der,
        der.sequence(_TIMES(not_before), _TIMES(not_after)),
        subject_der,
        spki_der,
        der.explicit(3, der.tlv(der.SEQUENCE, extensions)),
    )


def encode_subject_key_identifier(digest: bytes) -> bytes:
    """The extension, never critical (RFC 5280 §4.2.1.2)."""
    return der.sequence(_SUBJECT_KEY_IDENTIFIER, der.octet_string(der.octet_string(digest)))


def encode_subject_alternative_name(names: Iterable[AltName], *, critical: bool) -> bytes:
    """The extension (RFC 5280 §4.2.1.6). Raises ValueError for a name that should be ASCII and is not."""
    value = der.octet_string(der.sequence(*map(_general_name, names)))
    return der.sequence(_SUBJECT_ALTERNATIVE_NAME, der.boolean(True) if critical else b"", value)


def encode_crl_distribution_points(urls: Iterable[str]) -> bytes:
    """The extension with one point that has these names, not critical (RFC 5280 §4.2.1.13)."""
    names = b"".join(der.tlv(0x86, url.encode("ascii")) for url in urls)
    point = der.sequence(der.explicit(0, der.explicit(0, names)))
    return der.sequence(_CRL_DISTRIBUTION_POINTS, der.octet_string(der.sequence(point)))


def _general_name(name: AltName) -> bytes:
    if name.kind in DEVICE_KINDS:  # [0] otherName: type-id, then the value under an explicit tag
        type_id, value = encode_other_name(name)
        return der.tlv(0xA0, der.oid(type_id) + der.explicit(0, value))
    return der.tlv(_TAGS[name.kind], _octets(name))


def _octets(name: AltName) -> bytes:
    return ipaddress.ip_address(name.value).packed if name.kind is AltNameKind.IP else name.value.encode("ascii")


def is_subject_key_identifier(oid_der: bytes) -> bool:
    """Whether that OID names the extension."""
    return oid_der == _SUBJECT_KEY_IDENTIFIER


def public_key_octets(spki_der: bytes) -> bytes:
    """The octets of subjectPublicKey, which key identifiers are hashes of (RFC 5280 §4.2.1.2 (1))."""
    _, key = der.children(spki_der, der.read_only(spki_der, der.SEQUENCE))
    return key.content(spki_der)[1:]
