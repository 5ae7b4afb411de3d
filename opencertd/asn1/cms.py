"""Certificates in a row as a signature-less SignedData: the "certs-only" message of EST and SCEP (RFC 5652 §5).

The order in which certificates are given does not survive: they are a SET OF, and DER sorts a SET OF by its bytes
(X.690 §11.6). Readers build the chain from names and keys, never from places.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from opencertd.asn1 import der

_DATA = der.oid("1.2.840.113549.1.7.1")
_SIGNED_DATA = der.oid("1.2.840.113549.1.7.2")
_EMPTY_SET = der.tlv(der.SET, b"")
_MOST_CERTIFICATES = 256


def encode_certs_only(certificates_der: Sequence[bytes]) -> bytes:
    """ContentInfo holding the certificates, each once, in DER's order; DER."""
    certificates = b"".join(sorted(set(certificates_der)))
    signed_data = der.sequence(
        der.integer(1),
        _EMPTY_SET,  # digestAlgorithms
        der.sequence(_DATA),  # encapContentInfo without content
        der.tlv(0xA0, certificates),
        _EMPTY_SET,  # signerInfos
    )
    return der.sequence(_SIGNED_DATA, der.explicit(0, signed_data))


def decode_certs_only(data: bytes) -> tuple[bytes, ...]:
    """DER of the certificates in a SignedData (DER or BER), in its order. Raises ValueError when there are none."""
    try:
        certificates = pkcs7.load_der_pkcs7_certificates(data)
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        certificates = []
    if not certificates:
        raise ValueError("not a CMS message that carries certificates")
    if len(certificates) > _MOST_CERTIFICATES:
        raise ValueError(f"the CMS message carries more than {_MOST_CERTIFICATES} certificates")
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)
