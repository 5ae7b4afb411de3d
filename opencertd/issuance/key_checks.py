"""Which public keys may be in a certificate: kinds and sizes that are safe, and values that are not broken."""

from __future__ import annotations

import math

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.weak_keys import weakness
from opencertd.keys.signer import PublicKey

_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_SMALL_PRIMES_PRODUCT = math.prod(p for p in range(3, 752) if all(p % d for d in range(2, int(p**0.5) + 1)))
"""NIST SP 800-89 §5.3.3: a modulus divisible by a prime below 752 is refused."""


def check_public_key(spki_der: bytes) -> PublicKey:
    """The key in a SubjectPublicKeyInfo: RSA of 2048 to 8192 bits, or P-256, P-384, P-521. Raises BAD_PUBLIC_KEY.

    `cryptography` has checked that an EC point lies on its curve when the key loads.
    """
    try:
        key = load_der_public_key(spki_der)
    except (ValueError, UnsupportedAlgorithm):
        raise _bad("it is not a well-formed key of a supported kind") from None
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name not in _CURVES:
            raise _bad(f"its curve {key.curve.name} is not one of P-256, P-384 and P-521")
        return key
    if isinstance(key, rsa.RSAPublicKey):
        _check_rsa(key.public_numbers())
        return key
    raise _bad("only RSA and EC keys are accepted")


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
