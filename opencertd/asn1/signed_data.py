"""CMS SignedData with one signer, whose signature is made elsewhere (RFC 5652 §5)."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from opencertd.asn1 import der

SIGNED_DATA = "1.2.840.113549.1.7.2"
KEY_PACKAGE = "2.16.840.1.101.2.1.2.78.5"
"""id-ct-KP-aKeyPackage: a row of PKCS#8 keys (RFC 5958 §2)."""

_CONTENT_TYPE = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
_DIGESTS = {"sha256": 1, "sha384": 2, "sha512": 3}


def signed_attributes(content_type: str, content: bytes, digest: hashes.HashAlgorithm) -> bytes:
    """What the signer signs: a SET OF the attributes that say the content's type and digest; DER."""
    hashed = hashes.Hash(digest)
    hashed.update(content)
    attributes = (
        _attribute(_CONTENT_TYPE, der.oid(content_type)),
        _attribute(_MESSAGE_DIGEST, der.octet_string(hashed.finalize())),
    )
    return der.tlv(der.SET, b"".join(sorted(attributes)))


def _attribute(oid: str, value: bytes) -> bytes:
    return der.sequence(der.oid(oid), der.tlv(der.SET, value))


def signed_data(
    content_type: str,
    content: bytes,
    *,
    attributes_der: bytes,
    signature: bytes,
    algorithm_der: bytes,
    digest: hashes.HashAlgorithm,
    signer: x509.Certificate,
    signer_der: bytes,
) -> bytes:
    """SignedData (without ContentInfo), `signature` being over `attributes_der`; DER."""
    digest_der = der.sequence(der.oid(f"2.16.840.1.101.3.4.2.{_DIGESTS[digest.name]}"))
    name = der.sequence(signer.issuer.public_bytes(), der.integer(signer.serial_number))
    attributes = der.read_only(attributes_der, der.SET).content(attributes_der)
    info = der.sequence(
        der.integer(1),
        name,
        digest_der,
        der.tlv(0xA0, attributes),
        algorithm_der,
        der.octet_string(signature),
    )
    return der.sequence(
        der.integer(3),
        der.tlv(der.SET, digest_der),
        der.sequence(der.oid(content_type), der.explicit(0, der.octet_string(content))),
        der.tlv(0xA0, signer_der),
        der.tlv(der.SET, info),
    )
