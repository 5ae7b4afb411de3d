"""Account keys: JSON Web Keys of the kinds this CA can verify and finds strong enough.

A key has one canonical form here, whatever a client adds or how it spells numbers, so that thumbprints (RFC 7638)
identify accounts. Sources: RFC 7517, RFC 7518 §6 (RSA and EC), RFC 8037 §2 (Ed25519, Ed448), and for ML-DSA
RFC 9964 §3 (key type AKP, whose `alg` is part of the key and of its thumbprint).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ed448, ed25519, mldsa
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from josepy.errors import Error as JoseError
from josepy.jwk import JWKEC, JWKRSA
from josepy.util import ComparableECKey, ComparableRSAKey

from opencertd.acme.encoding import b64url, parse_b64url
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.key_checks import check_public_key
from opencertd.keys.kinds import PublicKey, label_of

_MEMBERS = {"RSA": ("e", "n"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x"), "AKP": ("alg", "pub")}
_WORDS = frozenset({"crv", "alg"})
_PRIVATE = frozenset({"d", "k", "priv"})
_LONGEST_MEMBER = 3500
"""Base64url digits of the longest member that could pass (an ML-DSA-87 key needs 3456)."""

_RAW: Mapping[tuple[str, str], Callable[[bytes], PublicKey]] = {
    ("crv", "Ed25519"): ed25519.Ed25519PublicKey.from_public_bytes,
    ("crv", "Ed448"): ed448.Ed448PublicKey.from_public_bytes,
    ("alg", "ML-DSA-44"): mldsa.MLDSA44PublicKey.from_public_bytes,
    ("alg", "ML-DSA-65"): mldsa.MLDSA65PublicKey.from_public_bytes,
    ("alg", "ML-DSA-87"): mldsa.MLDSA87PublicKey.from_public_bytes,
}
"""Keys that are a string of bytes, which josepy does not know."""


@dataclass(frozen=True)
class AccountKey:
    """A public key. `jwk`: its required members in canonical spelling; `thumbprint`: RFC 7638, SHA-256, base64url."""

    public_key: PublicKey
    jwk: dict[str, str]
    thumbprint: str
    spki_der: bytes


def parse_jwk(value: object) -> AccountKey:
    """A public JWK. Raises MALFORMED when it is not one, BAD_PUBLIC_KEY when it is of a kind or size not accepted."""
    if not isinstance(value, Mapping):
        raise Refusal(RefusalKind.MALFORMED, "the JWK is not a JSON object")
    if not _PRIVATE.isdisjoint(value):
        raise Refusal(RefusalKind.MALFORMED, "the JWK is a private or secret key, which must never be sent")
    kind = value.get("kty")
    if not isinstance(kind, str) or kind not in _MEMBERS:
        raise _bad("its kty is not RSA, EC, OKP or AKP")
    members = {"kty": kind}
    for name in _MEMBERS[kind]:
        member = value.get(name)
        if not isinstance(member, str) or len(member) > _LONGEST_MEMBER:
            raise Refusal(RefusalKind.MALFORMED, f"the JWK's {name!r} is missing, too long or no string")
        if name not in _WORDS:
            parse_b64url(member, f"the JWK's {name!r}")
        members[name] = member
    return _load(json.dumps(members, sort_keys=True))


def thumbprint_of(spki_der: bytes) -> str | None:
    """The thumbprint of the account that has this key, if any has; None for a key that no account can have.

    Raises BAD_PUBLIC_KEY for what is no key, or too weak.
    """
    key = check_public_key(spki_der)
    if isinstance(key, RSAPublicKey):
        return b64url(JWKRSA(key=ComparableRSAKey(key)).thumbprint())
    if isinstance(key, EllipticCurvePublicKey):
        return b64url(JWKEC(key=ComparableECKey(key)).thumbprint())
    if not isinstance(key, PublicKey):
        return None
    name, raw = label_of(key), b64url(key.public_bytes_raw())
    okp = ("crv", name) in _RAW
    return _raw_thumbprint({"kty": "OKP", "crv": name, "x": raw} if okp else {"kty": "AKP", "alg": name, "pub": raw})


_MOST_KEPT = 1024
_kept: dict[str, AccountKey] = {}


def stored_key(thumbprint: str, jwk: Mapping[str, Any]) -> AccountKey:
    """The key of an account that has this `jwk` of this thumbprint, which was checked when it was taken in."""
    key = _kept.get(thumbprint)
    if key is None:
        key = parse_jwk(jwk)
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        _kept[thumbprint] = key
    return key


@lru_cache(maxsize=1024)  # loading costs more than verifying with some keys, and accounts come back
def _load(text: str) -> AccountKey:
    members: dict[str, str] = json.loads(text)
    if members["kty"] in {"OKP", "AKP"}:
        return _load_raw(members)
    try:
        jwk = (JWKRSA if members["kty"] == "RSA" else JWKEC).fields_from_json(members)
        spki_der = jwk.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (JoseError, ValueError, UnsupportedAlgorithm):
        raise _bad("its members make no key, or its curve is not P-256, P-384 or P-521") from None
    canonical: dict[str, Any] = jwk.to_json()
    key = check_public_key(spki_der)
    if not isinstance(key, PublicKey):
        raise _bad("it signs nothing")
    return AccountKey(key, canonical, b64url(jwk.thumbprint()), spki_der)


def _load_raw(members: dict[str, str]) -> AccountKey:
    which = "crv" if members["kty"] == "OKP" else "alg"
    make = _RAW.get((which, members[which]))
    if make is None:
        raise _bad(f"its {which!r} is not one of {', '.join(name for word, name in _RAW if word == which)}")
    content = "x" if which == "crv" else "pub"
    try:
        key = make(parse_b64url(members[content], f"the JWK's {content!r}"))
    except (ValueError, UnsupportedAlgorithm):
        raise _bad("its members make no key") from None
    spki_der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    check_public_key(spki_der)
    return AccountKey(key, members, _raw_thumbprint(members), spki_der)


def _raw_thumbprint(members: dict[str, str]) -> str:
    canonical = json.dumps(members, separators=(",", ":"), sort_keys=True)  # RFC 7638 §3.2
    return b64url(hashlib.sha256(canonical.encode("ascii")).digest())


def _bad(why: str) -> Refusal:
    return Refusal(RefusalKind.BAD_PUBLIC_KEY, f"the JWK was refused: {why}")
