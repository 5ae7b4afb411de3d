"""Which public keys may be in a certificate: kinds and sizes that are safe, and values that are not broken."""

from __future__ import annotations

import math

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.weak_keys import weakness
from opencertd.keys.kinds import KINDS, SubjectKey, kind_of

_SMALL_PRIMES_PRODUCT = math.prod(p for p in range(3, 752) if all(p % d for d in range(2, int(p**0.5) + 1)))
"""NIST SP 800-89 §5.3.3: a modulus divisible by a prime below 752 is refused."""


def check_public_key(spki_der: bytes) -> SubjectKey:
    """The key in a SubjectPublicKeyInfo: of one of `KINDS`, RSA of 2048 to 8192 bits. Raises BAD_PUBLIC_KEY.

    `cryptography` has checked that an EC point lies on its curve when the key loads.
    """
    try:
        key = load_der_public_key(spki_der)
    except (ValueError, UnsupportedAlgorithm):
        raise _bad("it is not a well-formed key of a supported kind") from None
    if not isinstance(key, SubjectKey) or kind_of(key).name not in KINDS:
        raise _bad(f"it is {_named(key)}; {_ACCEPTED} are accepted")
    if isinstance(key, rsa.RSAPublicKey):
        _check_rsa(key.public_numbers())
    # What is issued bears the usual encoding, and must be byte for byte what was asked and proven.
    if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != spki_der:
        raise _bad("its encoding is not the usual one (a compressed point, or parameters that restrict an RSA key)")
    return key


def compromised() -> Refusal:
    """What is answered when a certificate of the key was revoked for keyCompromise."""
    return _bad("a certificate of it was revoked because the key is compromised")


_ACCEPTED = "RSA, P-256, P-384, P-521, Ed25519, Ed448, ML-DSA and ML-KEM keys"


def _named(key: object) -> str:
    try:
        return f"of the kind {kind_of(key).label}"
    except ValueError:
        return f"of the kind {type(key).__name__.removesuffix('PublicKey')}"


def _check_rsa(numbers: rsa.RSAPublicNumbers) -> None:
    bits = numbers.n.bit_length()
    if not 2048 <= bits <= 8192:
        raise _bad(f"its RSA modulus has {bits} bits: 2048 to 8192 are accepted")
    if numbers.e < 65537 or numbers.e % 2 == 0 or numbers.e >= 1 << 256:
        raise _bad("its RSA exponent must be odd, at least 65537 and below 2^256")
    if numbers.n % 2 == 0 or math.gcd(numbers.n, _SMALL_PRIMES_PRODUCT) != 1:
        raise _bad("its RSA modulus has small factors")
    if (why := weakness(numbers.n)) is not None:
        raise _bad(why)


def _bad(why: str) -> Refusal:
    return Refusal(RefusalKind.BAD_PUBLIC_KEY, f"the public key was refused: {why}")
