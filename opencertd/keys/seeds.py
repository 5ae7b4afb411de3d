"""ML-DSA private keys as OpenSSL writes them, brought to the form that `cryptography` reads.

RFC 9881 §6 has three forms: the 32 octets of the seed, the expanded key, or both. OpenSSL writes both unless told
otherwise (`-provparam ml-dsa.output_formats=seed-only`); the seed alone says as much.
"""

from __future__ import annotations

from opencertd.asn1 import der
from opencertd.keys.kinds import KINDS

_SEED = 0x80
_SEED_OCTETS = 32
_ALGORITHMS = frozenset(
    scheme.algorithm_der for kind in KINDS.values() if kind.family == "ml-dsa" for scheme in kind.schemes
)


def seed_only(pkcs8_der: bytes) -> bytes:
    """The same key as its seed alone, PKCS#8. Raises ValueError when it is no ML-DSA key that has both."""
    version, algorithm, key, *_ = der.children(pkcs8_der, der.read_only(pkcs8_der, der.SEQUENCE))
    if algorithm.raw(pkcs8_der) not in _ALGORITHMS or key.tag != der.OCTET_STRING:
        raise ValueError("not an ML-DSA key")
    both = key.content(pkcs8_der)
    seed, _expanded = der.children(both, der.read_only(both, der.SEQUENCE))
    content = seed.content(both)
    if seed.tag != der.OCTET_STRING or len(content) != _SEED_OCTETS:
        raise ValueError("not the seed of an ML-DSA key")
    return der.sequence(version.raw(pkcs8_der), algorithm.raw(pkcs8_der), der.octet_string(der.tlv(_SEED, content)))
