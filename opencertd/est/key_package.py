"""A private key in CMS: signed by the CA that made it, then encrypted to its reader (RFC 7030 §4.4.2, RFC 5958 §2)."""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives import hashes

from opencertd.asn1 import der
from opencertd.asn1.enveloped import Reader, envelope
from opencertd.asn1.signed_data import KEY_PACKAGE, SIGNED_DATA, signed_attributes, signed_data
from opencertd.issuance.issuers import Issuer
from opencertd.keys.kinds import scheme_by_algorithm


async def enclose(
    pkcs8_der: bytes, reader: Reader, cipher: str, issuer: Issuer, random: Callable[[int], bytes]
) -> bytes:
    """EnvelopedData of SignedData of an AsymmetricKeyPackage with that one key; `issuer` signs. DER."""
    content = der.sequence(pkcs8_der)
    signer = issuer.signer
    digest = scheme_by_algorithm(signer.public_key, signer.algorithm_der).digest or hashes.SHA512()
    attributes = signed_attributes(KEY_PACKAGE, content, digest)
    signed = signed_data(
        KEY_PACKAGE,
        content,
        attributes_der=attributes,
        signature=await signer.sign(attributes),
        algorithm_der=signer.algorithm_der,
        digest=digest,
        signer=issuer.certificate,
        signer_der=issuer.certificate_der,
    )
    return envelope(SIGNED_DATA, signed, reader, cipher=cipher, random=random)
