"""A client's side of JOSE, written apart from the server's: keys, JWKs, signatures, nothing checked."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

EC_ALGORITHMS = {
    "secp256r1": ("ES256", "P-256", 32, hashes.SHA256()),
    "secp384r1": ("ES384", "P-384", 48, hashes.SHA384()),
    "secp521r1": ("ES512", "P-521", 66, hashes.SHA512()),
}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, length: int | None = None) -> str:
    return b64(value.to_bytes(length or (value.bit_length() + 7) // 8, "big"))


@functools.cache
def rsa_key(size: int = 2048, which: int = 0) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, size)


def ec_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


def keys_of_all_kinds() -> list[Any]:
    return [
        rsa_key(),
        ec_key(),
        ec_key(ec.SECP384R1()),
        ec_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
        ed448.Ed448PrivateKey.generate(),
        mldsa.MLDSA44PrivateKey.generate(),
        mldsa.MLDSA65PrivateKey.generate(),
        mldsa.MLDSA87PrivateKey.generate(),
    ]


def jwk_of(key: Any) -> dict[str, str]:
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
    if isinstance(public, ec.EllipticCurvePublicKey):
        point = public.public_numbers()
        _, crv, width, _ = EC_ALGORITHMS[public.curve.name]
        return {"kty": "EC", "crv": crv, "x": number(point.x, width), "y": number(point.y, width)}
    raw = b64(public.public_bytes_raw())
    if isinstance(public, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return {"kty": "OKP", "crv": type(public).__name__.removesuffix("PublicKey"), "x": raw}
    return {"kty": "AKP", "alg": algorithm_of(key), "pub": raw}


def thumbprint_of(key: Any) -> str:
    canonical = json.dumps(jwk_of(key), sort_keys=True, separators=(",", ":"))
    return b64(hashlib.sha256(canonical.encode()).digest())


def algorithm_of(key: Any) -> str:
    if isinstance(key, rsa.RSAPrivateKey):
        return "RS256"
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return EC_ALGORITHMS[key.curve.name][0]
    if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        return "EdDSA"
    sizes = {mldsa.MLDSA44PrivateKey: 44, mldsa.MLDSA65PrivateKey: 65, mldsa.MLDSA87PrivateKey: 87}
    return next(f"ML-DSA-{size}" for kind, size in sizes.items() if isinstance(key, kind))


def fits(key: Any, algorithm: str) -> bool:
    """Whether the key can sign by that algorithm."""
    if isinstance(key, rsa.RSAPrivateKey):
        return algorithm in {"RS256", "RS384", "RS512", "PS256"}
    if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        return algorithm in {"EdDSA", jwk_of(key)["crv"]}
    return algorithm == algorithm_of(key)


def raw_signature(key: Any, data: bytes, algorithm: object = None) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        if algorithm == "PS256":
            return key.sign(data, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
        digest: Any = {"RS384": hashes.SHA384(), "RS512": hashes.SHA512()}.get(str(algorithm), hashes.SHA256())
        return key.sign(data, padding.PKCS1v15(), digest)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        _, _, width, digest = EC_ALGORITHMS[key.curve.name]
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
        return r.to_bytes(width, "big") + s.to_bytes(width, "big")
    return key.sign(data)


def sign(key: Any, header: dict[str, Any], payload: bytes) -> dict[str, str]:
    """A flattened JWS of `payload`; `alg` is the key's own unless `header` says otherwise."""
    header = {"alg": algorithm_of(key), **header}
    protected = b64(json.dumps(header).encode())
    body = b64(payload)
    signature = raw_signature(key, f"{protected}.{body}".encode(), header["alg"])
    return {"protected": protected, "payload": body, "signature": b64(signature)}


def spki_of(key: Any) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def csr_for(key: Any, *names: str, common_name: str | None = None, sans: list[x509.GeneralName] | None = None) -> bytes:
    """DER of a CSR with the DNS names (or `sans`) as subjectAltName, and a subject only when there is a common name."""
    attributes = [] if common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    alternatives = [x509.DNSName(name) for name in names] if sans is None else sans
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
