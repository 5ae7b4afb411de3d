"""The one JWS verifier: flattened JSON, one signature, everything that counts in the protected header.

Sources: RFC 8555 §6.2 (which JWS ACME takes), RFC 7515 §7.2.2 (flattened form); for algorithms RFC 7518 §3, RFC 8037
§3.1, RFC 9864 §2.2 (Ed25519, Ed448), RFC 9964 (ML-DSA). `parse_jws` opens the envelope, `check_signature` verifies it:
between the two the caller finds the key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from opencertd.acme.encoding import parse_b64url, parse_object
from opencertd.acme.jwk import AccountKey
from opencertd.errors import Refusal, RefusalKind
from opencertd.keys.kinds import Digest, PublicKey

Padding: TypeAlias = padding.PKCS1v15 | padding.PSS

_MOST_STRIPPED = 4
"""How many leading zero bytes a sloppy client may have lost from an ECDSA signature; each costs one more try."""


@dataclass(frozen=True)
class Jws:
    """An opened JWS whose signature nobody has checked yet. Exactly one of `jwk` (as sent) and `kid` is there."""

    algorithm: str
    url: str
    nonce: str | None
    jwk: Mapping[str, Any] | None
    kid: str | None
    payload: bytes
    signing_input: bytes
    signature: bytes


@dataclass(frozen=True)
class Opened:
    """The parts of a flattened JWS, decoded."""

    header: dict[str, Any]
    payload: bytes
    signing_input: bytes
    signature: bytes


def parse_jws(body: bytes) -> Jws:
    """Open a flattened JWS. Raises MALFORMED, or BAD_SIGNATURE_ALGORITHM with what would be accepted."""
    opened = open_flattened(parse_object(body, "the JWS"), "the JWS")
    return _from_header(opened.header, opened.payload, opened.signing_input, opened.signature)


def open_flattened(envelope: Mapping[str, Any], what: str) -> Opened:
    """Decode the parts (RFC 7515 §7.2.2) with everything in the protected header. Raises MALFORMED, naming `what`."""
    for absent in ("signatures", "header"):
        if absent in envelope:
            raise _malformed(f"{what} has a {absent!r} member: flattened JSON with a protected header only")
    for part in ("protected", "payload", "signature"):
        if not isinstance(envelope.get(part), str):
            raise _malformed(f"{what} has no {part!r} string")
    protected = parse_b64url(envelope["protected"], f"{what}'s protected header")
    payload = parse_b64url(envelope["payload"], f"{what}'s payload")
    signature = parse_b64url(envelope["signature"], f"{what}'s signature")
    header = parse_object(protected, f"{what}'s protected header")
    signing_input = f"{envelope['protected']}.{envelope['payload']}".encode("ascii")
    if "crit" in header:
        raise _malformed(f"{what} asks for extensions ('crit') that are not understood")  # RFC 7515 §4.1.11
    return Opened(header, payload, signing_input, signature)


def _from_header(header: dict[str, Any], payload: bytes, signing_input: bytes, signature: bytes) -> Jws:
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in _VERIFIERS:
        raise Refusal(
            RefusalKind.BAD_SIGNATURE_ALGORITHM,
            f"the JWS's algorithm is not one of {', '.join(ALGORITHMS)}",
            allowed=ALGORITHMS,
        )
    jwk, kid, nonce, url = (header.get(name) for name in ("jwk", "kid", "nonce", "url"))
    if (jwk is None) == (kid is None):
        raise _malformed("the JWS's protected header must have exactly one of 'jwk' and 'kid'")
    if jwk is not None and not isinstance(jwk, dict):
        raise _malformed("the JWS's 'jwk' is not a JSON object")
    if kid is not None and not isinstance(kid, str):
        raise _malformed("the JWS's 'kid' is not a string")
    if nonce is not None:
        parse_b64url(nonce, "the JWS's 'nonce'")  # RFC 8555 §6.5.2
    if header.get("b64", True) is not True:  # RFC 7797, which RFC 8555 §6.2 rules out
        raise _malformed("the JWS's payload must be base64url-encoded")
    if not isinstance(url, str):
        raise _malformed("the JWS's protected header has no 'url' string")
    return Jws(algorithm, url, nonce, jwk, kid, payload, signing_input, signature)


def check_signature(jws: Jws, key: AccountKey) -> None:
    """Raises MALFORMED unless `key` made the signature, by an algorithm that fits the key."""
    if not _VERIFIERS[jws.algorithm](key.public_key, jws.signature, jws.signing_input):
        raise _malformed(f"the JWS's {jws.algorithm} signature does not verify with the key")


def _verifies_rsa(padded: Callable[[], Padding], digest: Digest, key: PublicKey, signature: bytes, data: bytes) -> bool:
    """RFC 7518 §3.3 and §3.5."""
    if not isinstance(key, rsa.RSAPublicKey):
        return False
    return not _fails(lambda: key.verify(signature, data, padded(), digest))


def _verifies_raw(kind: Any, key: PublicKey, signature: bytes, data: bytes) -> bool:
    """Keys that say all about their signatures."""
    return isinstance(key, kind) and not _fails(lambda: key.verify(signature, data))


def _fails(verify: Callable[[], None]) -> bool:
    try:
        verify()
    except InvalidSignature:
        return True
    return False


def _verifies_ec(curve: str, algorithm: ec.ECDSA, key: PublicKey, signature: bytes, data: bytes) -> bool:
    """RFC 7518 §3.4: r and s, each as long as the curve's order.

    Clients that make it from DER lose leading zeros of either, so a shorter one is split at every place it may be.
    """
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != curve:
        return False
    width = (key.key_size + 7) // 8
    stripped = 2 * width - len(signature)
    if not 0 <= stripped <= _MOST_STRIPPED:
        return False
    for split in range(width - stripped, width + 1):
        r = int.from_bytes(signature[:split], "big")
        s = int.from_bytes(signature[split:], "big")
        try:
            key.verify(encode_dss_signature(r, s), data, algorithm)
        except InvalidSignature:
            continue
        return True
    return False


def _pss() -> Padding:
    """RFC 7518 §3.5: MGF1 with the same hash, a salt as long as the hash."""
    return padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)


_VERIFIERS: Mapping[str, Callable[[PublicKey, bytes, bytes], bool]] = {
    "RS256": partial(_verifies_rsa, padding.PKCS1v15, hashes.SHA256()),
    "RS384": partial(_verifies_rsa, padding.PKCS1v15, hashes.SHA384()),
    "RS512": partial(_verifies_rsa, padding.PKCS1v15, hashes.SHA512()),
    "PS256": partial(_verifies_rsa, _pss, hashes.SHA256()),
    "ES256": partial(_verifies_ec, "secp256r1", ec.ECDSA(hashes.SHA256())),
    "ES384": partial(_verifies_ec, "secp384r1", ec.ECDSA(hashes.SHA384())),
    "ES512": partial(_verifies_ec, "secp521r1", ec.ECDSA(hashes.SHA512())),
    "EdDSA": partial(_verifies_raw, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey),
    "Ed25519": partial(_verifies_raw, ed25519.Ed25519PublicKey),
    "Ed448": partial(_verifies_raw, ed448.Ed448PublicKey),
    "ML-DSA-44": partial(_verifies_raw, mldsa.MLDSA44PublicKey),
    "ML-DSA-65": partial(_verifies_raw, mldsa.MLDSA65PublicKey),
    "ML-DSA-87": partial(_verifies_raw, mldsa.MLDSA87PublicKey),
}

ALGORITHMS = tuple(_VERIFIERS)
"""What a JWS may be signed with."""


def _malformed(why: str) -> Refusal:
    return Refusal(RefusalKind.MALFORMED, why)
