"""To-be-signed bytes come from a specimen: the certificate signed by a throw-away key of the issuer's kind.

What is linted and recorded is then exactly what the issuer's key signs (draft → lint → intent → signature).
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.keys.signer import PrivateKey, PublicKey, hash_of


class SpecimenKeys:
    """Throw-away keys by kind of issuer key, made at first need and never written anywhere."""

    def __init__(self) -> None:
        self._keys: dict[str, PrivateKey] = {}

    def sign(self, builder: x509.CertificateBuilder, issuer_key: PublicKey) -> bytes:
        """The specimen, DER: as the issuer would sign it, but for the signature."""
        return builder.sign(self._key_like(issuer_key), hash_of(issuer_key)).public_bytes(Encoding.DER)

    def _key_like(self, issuer_key: PublicKey) -> PrivateKey:
        if isinstance(issuer_key, rsa.RSAPublicKey):
            # The size of the key shows nowhere in the to-be-signed bytes, so the smallest good one does.
            if "rsa" not in self._keys:
                self._keys["rsa"] = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        elif issuer_key.curve.name not in self._keys:
            self._keys[issuer_key.curve.name] = ec.generate_private_key(issuer_key.curve)
        return self._keys["rsa" if isinstance(issuer_key, rsa.RSAPublicKey) else issuer_key.curve.name]
