"""Possession of a certificate's key, proven by a signature over the words of a revocation.

The signature is over the UTF-8 of `sn` followed by `reason` (and `invalidityDate`, if there is one), all as they were
sent; `reinstate` stands in the reason's place when a hold is to end. No other serial with a valid reason makes the same
words: reasons are whole names, so they cannot be split at another place.
"""

from __future__ import annotations

import base64
import binascii

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from opencertd.errors import Refusal, RefusalKind
from opencertd.keys.kinds import PublicKey

REINSTATE = "reinstate"
"""What is signed after the serial to end a hold; no reason is called so."""

_LONGEST = 8192  # characters; ML-DSA-87 needs 6170


def check_signature(certificate: x509.Certificate, sn: str, deed: str, signature: str) -> None:
    """Raise Refusal UNAUTHENTICATED unless `signature` is the certificate's key's over sn + deed.

    RSA with SHA-256: PKCS#1 v1.5 or PSS of any salt length; ECDSA with SHA-256: DER; Ed25519, Ed448 and ML-DSA over
    the words themselves. Base64 or base64url, padded or not.
    """
    key = certificate.public_key()
    octets = _decode(signature)
    words = (sn + deed).encode()
    try:
        if isinstance(key, rsa.RSAPublicKey):
            _check_rsa(key, octets, words)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(octets, words, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, PublicKey):
            key.verify(octets, words)
        else:
            raise _wrong("a key of this kind cannot sign a revocation")
    except InvalidSignature:
        hashed = " with SHA-256" if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) else ""
        raise _wrong(f"it is not the client certificate's signature{hashed} over sn followed by {deed}") from None


def _check_rsa(key: rsa.RSAPublicKey, octets: bytes, words: bytes) -> None:
    try:
        key.verify(octets, words, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.AUTO)
        key.verify(octets, words, pss, hashes.SHA256())


def _decode(signature: str) -> bytes:
    # A `+` of plain base64 that was not percent-encoded arrives as a space.
    text = signature.strip("\r\n\t").replace(" ", "+").replace("-", "+").replace("_", "/").rstrip("=")
    if not text:
        raise _wrong("it is missing")
    if len(text) > _LONGEST:
        raise _wrong("it is too long")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _wrong("it is not base64") from None


def _wrong(why: str) -> Refusal:
    return Refusal(RefusalKind.UNAUTHENTICATED, f"the signature was refused: {why}")
