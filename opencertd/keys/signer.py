"""A signer turns bytes into a signature under one algorithm; what holds the key is its own affair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred, fail, succeed

from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.keys.kinds import PrivateKey, PublicKey, Scheme, scheme_of

T = TypeVar("T")
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

    def by(self, scheme: Scheme) -> Signer:
        """What signs with the same key by that scheme, which is one that the key has."""


class SoftwareSigner:
    """A private key in memory. `elsewhere` takes slow signatures off the reactor; quick ones stay where they are.

    `scheme`: how it signs; None for the key's usual way.
    """

    def __init__(self, key: PrivateKey, elsewhere: Elsewhere[bytes], scheme: Scheme | None = None) -> None:
        self._key = key
        self._elsewhere = elsewhere
        self._public_key = key.public_key()
        self._scheme = scheme or scheme_of(self._public_key)
        self._sign = self._scheme.bound(key)

    @property
    def public_key(self) -> PublicKey:
        return self._public_key

    @property
    def algorithm_der(self) -> bytes:
        return self._scheme.algorithm_der

    def sign(self, data: bytes) -> Deferred[bytes]:
        sign = self._sign
        return self._elsewhere(lambda: sign(data)) if self._scheme.slow else succeed(sign(data))

    @property
    def sign_at_once(self) -> Callable[[bytes], bytes] | None:
        """`sign` without waiting, or None for a key whose signatures are too slow for the reactor."""
        return None if self._scheme.slow else self._sign

    def by(self, scheme: Scheme) -> SoftwareSigner:
        return SoftwareSigner(self._key, self._elsewhere, scheme)


class AbsentSigner:
    """The signer of a key that cannot be had here: it knows the public half, and refuses to sign. `why`: the cause."""

    def __init__(self, name: str, public_key: PublicKey, scheme: Scheme, why: StartError | None = None) -> None:
        self._name = name
        self._why = why
        self._public_key = public_key
        self._scheme = scheme

    @property
    def public_key(self) -> PublicKey:
        return self._public_key

    @property
    def algorithm_der(self) -> bytes:
        return self._scheme.algorithm_der

    def sign(self, data: bytes) -> Deferred[bytes]:
        refusal = Refusal(RefusalKind.UNAVAILABLE, f"the key of the CA {self._name} is not here")
        refusal.__cause__ = self._why
        return fail(refusal)

    def by(self, scheme: Scheme) -> AbsentSigner:
        return AbsentSigner(self._name, self._public_key, scheme, self._why)
