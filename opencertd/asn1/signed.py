"""Every signed X.509 object is SEQUENCE { to-be-signed, AlgorithmIdentifier, BIT STRING } (RFC 5280 §4.1)."""

from __future__ import annotations

from opencertd.asn1 import der


def assemble(tbs_der: bytes, algorithm_der: bytes, signature: bytes) -> bytes:
    """The signed object from its parts."""
    return der.sequence(tbs_der, algorithm_der, der.bit_string(signature))


def split(signed_der: bytes) -> tuple[bytes, bytes, bytes]:
    """To-be-signed bytes, AlgorithmIdentifier and signature of a signed object. Raises DerError."""
    outer = der.read_only(signed_der, der.SEQUENCE)
    parts = der.children(signed_der, outer)
    if [part.tag for part in parts] != [der.SEQUENCE, der.SEQUENCE, der.BIT_STRING]:
        raise der.DerError("not a signed object")
    tbs, algorithm, signature = parts
    return tbs.raw(signed_der), algorithm.raw(signed_der), signature.content(signed_der)[1:]
