"""Every signed X.509 object is SEQUENCE { to-be-signed, AlgorithmIdentifier, BIT STRING } (RFC 5280 §4.1)."""

from __future__ import annotations

from opencertd.asn1 import der


def assemble(tbs_der: bytes, algorithm_der: bytes, signature: bytes) -> bytes:
    """The signed object from its parts."""
    return der.sequence(tbs_der, algorithm_der, der.bit_string(signature))


def tbs_of(signed_der: bytes) -> memoryview:
    """The to-be-signed bytes of a signed object, not copied: a CRL has many megabytes. Raises DerError."""
    tbs, _, _ = _parts(signed_der)
    return memoryview(signed_der)[tbs.start : tbs.end]


def split(signed_der: bytes) -> tuple[bytes, bytes, bytes]:
    """To-be-signed bytes, AlgorithmIdentifier and signature of a signed object. Raises DerError."""
    tbs, algorithm, signature = _parts(signed_der)
    return tbs.raw(signed_der), algorithm.raw(signed_der), signature.content(signed_der)[1:]


def _parts(signed_der: bytes) -> tuple[der.Element, der.Element, der.Element]:
    outer = der.read_only(signed_der, der.SEQUENCE)
    parts = der.children(signed_der, outer)
    if [part.tag for part in parts] != [der.SEQUENCE, der.SEQUENCE, der.BIT_STRING]:
        raise der.DerError("not a signed object")
    tbs, algorithm, signature = parts
    return tbs, algorithm, signature


def split_ocsp(response_der: bytes) -> tuple[bytes, bytes, bytes]:
    """The same of a successful OCSPResponse: its ResponseData is what is signed (RFC 6960 §4.2.1). Raises DerError."""
    outer = der.children(response_der, der.read_only(response_der, der.SEQUENCE))
    inner = der.children(response_der, outer[1]) if len(outer) == 2 else ()
    parts = der.children(response_der, inner[0]) if len(inner) == 1 else ()
    if [part.tag for part in parts] != [der.OID, der.OCTET_STRING]:
        raise der.DerError("not a successful OCSP response")
    basic = parts[1].content(response_der)
    fields = der.children(basic, der.read_only(basic, der.SEQUENCE))
    return split(der.sequence(*(each.raw(basic) for each in fields[:3])))
