"""A signer turns bytes into a signature under one algorithm; what holds the key is its own affair.

Signatures: RSA PKCS#1 v1.5 with SHA-256 (PSS breaks many clients), ECDSA with the hash that fits the curve
(RFC 5758 §3.2). AlgorithmIdentifiers as RFC 4055 §5 and RFC 5758 say: NULL parameters for RSA, none for ECDSA.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from twisted.internet.defer import Deferred, succeed

from opencertd.asn1 import der

T = TypeVar("T")
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
Elsewhere = Callable[[Callable[[], T]], "Deferred[T]"]
"""Runs a function where it does not hold up the reactor, and answers its result."""


class Signer(Protocol):
    """Something that signs with one private key."""

    @property
    def public_key(self) -> PublicKey:
        """The public half."""

    @property
    def algorithm_der(self) -> bytes:
        """AlgorithmIdentifier of its signatures, DER."""

    def sign(self, data: bytes) -> Deferred[bytes]:
        """The signature over `data`, as it stands in X.509's BIT STRING."""


class SoftwareSigner:
    """A private key in memory. `elsewhere` takes RSA off the reactor; ECDSA (20 to 200 µs) stays where it is."""

    def __init__(self, key: PrivateKey, elsewhere: Elsewhere[bytes]) -> None:
        self._key = key
        self._elsewhere = elsewhere
        self._public_key = key.public_key()
        self._algorithm_der = algorithm_of(self._public_key)

    @property
    def public_key(self) -> PublicKey:
        return self._public_key

    @property
    def algorithm_der(self) -> bytes:
        return self._algorithm_der

    def sign(self, data: bytes) -> Deferred[bytes]:
        key = self._key
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return succeed(key.sign(data, ec.ECDSA(hash_of(self._public_key))))
        rsa_key = key
        return self._elsewhere(lambda: rsa_key.sign(data, padding.PKCS1v15(), hashes.SHA256()))


def hash_of(key: PublicKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512:
    """The hash that goes with signatures by this key."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.key_size > 384:
            return hashes.SHA512()
        if key.curve.key_size > 256:
            return hashes.SHA384()
    return hashes.SHA256()


def algorithm_of(key: PublicKey) -> bytes:
    """AlgorithmIdentifier of signatures by this key."""
    if isinstance(key, rsa.RSAPublicKey):
        return der.sequence(der.oid("1.2.840.113549.1.1.11"), der.null())
    ecdsa_with = {"sha256": "1.2.840.10045.4.3.2", "sha384": "1.2.840.10045.4.3.3", "sha512": "1.2.840.10045.4.3.4"}
    return der.sequence(der.oid(ecdsa_with[hash_of(key).name]))


def verifies(key: PublicKey, signature: bytes, data: bytes) -> bool:
    """Whether `signature` over `data` was made by the private half of `key` under `algorithm_of(key)`."""
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
        else:
            key.verify(signature, data, ec.ECDSA(hash_of(key)))
    except InvalidSignature:
        return False
    return True
