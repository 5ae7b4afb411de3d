"""Every kind of key in one table: how it is made, how it signs and verifies, and what its name is.

Signature schemes as X.509 has them: RSA PKCS#1 v1.5 (RFC 4055 §5, NULL parameters) or PSS with one hash throughout
(§3.1), usually with SHA-256; ECDSA (RFC 5758 §3.2, no parameters), usually with the hash that fits the curve; Ed25519
and Ed448 (RFC 8410 §3), ML-DSA in its pure form (RFC 9881 §3). ML-KEM keys (RFC 9935) decapsulate and sign nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, mlkem, rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15

from opencertd.asn1 import der

MlDsaPublicKey = mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey
MlDsaPrivateKey = mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey
MlKemPublicKey = mlkem.MLKEM768PublicKey | mlkem.MLKEM1024PublicKey

PublicKey = (
    rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey | MlDsaPublicKey
)
"""A key that verifies signatures."""
PrivateKey = (
    rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey | MlDsaPrivateKey
)
"""A key that signs."""
SubjectKey = PublicKey | MlKemPublicKey
"""A key that a certificate may be for."""
Digest = hashes.SHA256 | hashes.SHA384 | hashes.SHA512


@dataclass(frozen=True)
class Scheme:
    """One way to sign. `algorithm_der`: AlgorithmIdentifier of its signatures.

    `digest` and `padding` are what `cryptography` wants to be told of it, None where the key says all. `slow`: a
    signature takes longer than a hop to a thread and back.
    """

    name: str
    algorithm_der: bytes
    slow: bool
    digest: Digest | None = None
    padding: PSS | None = None

    def sign(self, key: PrivateKey, data: bytes) -> bytes:
        """The signature, as it stands in X.509's BIT STRING. `key` is of a kind that has this scheme."""
        return self.bound(key)(data)

    def bound(self, key: PrivateKey) -> Callable[[bytes], bytes]:
        """`sign` with this key: for many signatures, since finding out what the key is takes its time."""
        if isinstance(key, rsa.RSAPrivateKey):
            padding, digest = self.padding or PKCS1v15(), self._digest()
            return lambda data: key.sign(data, padding, digest)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            algorithm = ec.ECDSA(self._digest())
            return lambda data: key.sign(data, algorithm)
        return key.sign

    def verifies(self, key: PublicKey, signature: bytes, data: bytes) -> bool:
        """Whether the private half of `key` made `signature` over `data` in this way."""
        try:
            if isinstance(key, rsa.RSAPublicKey):
                key.verify(signature, data, self.padding or PKCS1v15(), self._digest())
            elif isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(signature, data, ec.ECDSA(self._digest()))
            else:
                key.verify(signature, data)
        except InvalidSignature:
            return False
        return True

    def _digest(self) -> Digest:
        if self.digest is None:
            raise ValueError(f"{self.name} is no scheme of this kind of key")
        return self.digest


def _pkcs1(name: str, digest: Digest, arc: int) -> Scheme:
    algorithm_der = der.sequence(der.oid(f"1.2.840.113549.1.1.{arc}"), der.null())
    return Scheme(name, algorithm_der, slow=True, digest=digest)


def _pss(name: str, digest: Digest, arc: int) -> Scheme:
    """With a salt as long as the hash (RFC 4055 §3.1)."""
    hashed = der.sequence(der.oid(f"2.16.840.1.101.3.4.2.{arc}"), der.null())
    mask = der.sequence(der.oid("1.2.840.113549.1.1.8"), hashed)
    salt = der.explicit(2, der.integer(digest.digest_size))
    parameters = der.sequence(der.explicit(0, hashed), der.explicit(1, mask), salt)
    algorithm_der = der.sequence(der.oid("1.2.840.113549.1.1.10"), parameters)
    return Scheme(name, algorithm_der, slow=True, digest=digest, padding=PSS(MGF1(digest), digest.digest_size))


def _bare(oid: str) -> bytes:
    """An AlgorithmIdentifier whose parameters are absent."""
    return der.sequence(der.oid(oid))


RSA_PKCS1 = _pkcs1("rsa", hashes.SHA256(), 11)
RSA_PSS = _pss("rsa-pss", hashes.SHA256(), 1)
_RSA_SCHEMES = (
    RSA_PKCS1,
    RSA_PSS,
    _pkcs1("rsa-sha384", hashes.SHA384(), 12),
    _pkcs1("rsa-sha512", hashes.SHA512(), 13),
    _pss("rsa-pss-sha384", hashes.SHA384(), 2),
    _pss("rsa-pss-sha512", hashes.SHA512(), 3),
)
ECDSA_SHA256 = Scheme("ecdsa-sha256", _bare("1.2.840.10045.4.3.2"), slow=False, digest=hashes.SHA256())
ECDSA_SHA384 = Scheme("ecdsa-sha384", _bare("1.2.840.10045.4.3.3"), slow=False, digest=hashes.SHA384())
ECDSA_SHA512 = Scheme("ecdsa-sha512", _bare("1.2.840.10045.4.3.4"), slow=False, digest=hashes.SHA512())
_ECDSA_SCHEMES = (ECDSA_SHA256, ECDSA_SHA384, ECDSA_SHA512)


@dataclass(frozen=True)
class Kind:
    """A kind of key. `name`: as settings spell it; `label`: as people do.

    `family`: keys whose users need the same software (`rsa`, `ecdsa`, `ed25519`, `ed448`, `ml-dsa`, `ml-kem`).
    `schemes`: how it may sign, its usual way first; none for a key that cannot. `make`: a new private key of a kind
    that signs.
    """

    name: str
    label: str
    family: str
    schemes: tuple[Scheme, ...]
    make: Callable[[], PrivateKey]

    @property
    def signed_by(self) -> str:
        """The family of issuer that fits: whoever can use such a certificate can verify that issuer's signatures."""
        return "ml-dsa" if self.family == "ml-kem" else self.family


def new_rsa_key(bits: int) -> rsa.RSAPrivateKey:
    """A new RSA key with the usual exponent."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def _ec_kind(name: str, label: str, curve: ec.EllipticCurve) -> Kind:
    usual = ECDSA_SHA256
    if curve.key_size > 256:
        usual = ECDSA_SHA384 if curve.key_size <= 384 else ECDSA_SHA512
    schemes = (usual, *(scheme for scheme in _ECDSA_SCHEMES if scheme is not usual))
    schemes = tuple(replace(scheme, slow=curve.key_size > 384) for scheme in schemes)
    return Kind(name, label, "ecdsa", schemes, functools.partial(ec.generate_private_key, curve))


def _one_way(name: str, label: str, family: str, oid: str, make: Callable[[], PrivateKey], *, slow: bool) -> Kind:
    """A kind whose keys sign in one way, which bears the key's own name."""
    return Kind(name, label, family, (Scheme(name, _bare(oid), slow),), make)


def _cannot_sign() -> PrivateKey:
    raise ValueError("a key of this kind cannot sign")


_RSA = Kind("rsa", "RSA", "rsa", _RSA_SCHEMES, functools.partial(new_rsa_key, 2048))
_CURVES = {
    "secp256r1": _ec_kind("p-256", "EC P-256", ec.SECP256R1()),
    "secp384r1": _ec_kind("p-384", "EC P-384", ec.SECP384R1()),
    "secp521r1": _ec_kind("p-521", "EC P-521", ec.SECP521R1()),
}
_OTHERS: tuple[tuple[type, Kind], ...] = (
    (
        ed25519.Ed25519PublicKey,
        _one_way("ed25519", "Ed25519", "ed25519", "1.3.101.112", ed25519.Ed25519PrivateKey.generate, slow=False),
    ),
    (
        ed448.Ed448PublicKey,
        _one_way("ed448", "Ed448", "ed448", "1.3.101.113", ed448.Ed448PrivateKey.generate, slow=True),
    ),
    *(
        (
            public,
            _one_way(f"ml-dsa-{level}", f"ML-DSA-{level}", "ml-dsa", f"2.16.840.1.101.3.4.3.{arc}", make, slow=True),
        )
        for level, arc, public, make in (
            (44, 17, mldsa.MLDSA44PublicKey, mldsa.MLDSA44PrivateKey.generate),
            (65, 18, mldsa.MLDSA65PublicKey, mldsa.MLDSA65PrivateKey.generate),
            (87, 19, mldsa.MLDSA87PublicKey, mldsa.MLDSA87PrivateKey.generate),
        )
    ),
    (mlkem.MLKEM768PublicKey, Kind("ml-kem-768", "ML-KEM-768", "ml-kem", (), _cannot_sign)),
    (mlkem.MLKEM1024PublicKey, Kind("ml-kem-1024", "ML-KEM-1024", "ml-kem", (), _cannot_sign)),
)

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (_RSA, *_CURVES.values(), *(kind for _, kind in _OTHERS))}
"""The kinds that are safe for everybody, by name. An imported EC CA may have a key on another curve besides."""

_ALIASES = {RSA_PKCS1.name: "rsa-sha256", RSA_PSS.name: "rsa-pss-sha256"}
SIGNATURE_ALGORITHMS: Mapping[str, str] = {
    _ALIASES.get(scheme.name, scheme.name): scheme.name for kind in KINDS.values() for scheme in kind.schemes
}
"""Names of all schemes, by those that profiles give them, which say the hash where the key leaves it open."""

POST_QUANTUM = frozenset({"ml-dsa", "ml-kem"})
"""Families that a quantum computer does not break."""


def kind_of(key: object) -> Kind:
    """The kind of a public key. Raises ValueError for a key that is of none."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name) or _ec_kind(key.curve.name, f"EC {key.curve.name}", key.curve)
    if isinstance(key, rsa.RSAPublicKey):
        return _RSA
    for public, kind in _OTHERS:
        if isinstance(key, public):
            return kind
    raise ValueError(f"{type(key).__name__.removesuffix('PublicKey')} keys are not supported")


def label_of(key: object) -> str:
    """A public key in words: `RSA 3072`, `EC P-256`, `ML-DSA-65`. Raises ValueError for a key of no known kind."""
    return f"RSA {key.key_size}" if isinstance(key, rsa.RSAPublicKey) else kind_of(key).label


def scheme_of(key: PublicKey, name: str | None = None) -> Scheme:
    """How `key` signs: in the way of that name, else its usual one. Raises ValueError when it has no such way."""
    schemes = kind_of(key).schemes
    for scheme in schemes:
        if name is None or scheme.name == name:
            return scheme
    raise ValueError(f"a key of the kind {label_of(key)} does not sign by {name}")


def scheme_by_algorithm(key: PublicKey, algorithm_der: bytes) -> Scheme:
    """How `key` signs under this AlgorithmIdentifier. Raises ValueError when it cannot."""
    for scheme in kind_of(key).schemes:
        if scheme.algorithm_der == algorithm_der:
            return scheme
    raise ValueError(f"a key of the kind {label_of(key)} has no such signature algorithm")


def verifies(key: PublicKey, signature: bytes, data: bytes, algorithm_der: bytes) -> bool:
    """Whether `signature` over `data` was made by the private half of `key` under this AlgorithmIdentifier."""
    try:
        return scheme_by_algorithm(key, algorithm_der).verifies(key, signature, data)
    except ValueError:
        return False
