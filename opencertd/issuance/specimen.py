"""To-be-signed bytes come from a specimen: the certificate signed by a throw-away key of the issuer's kind.

What is linted and recorded is then exactly what the issuer's key signs (draft → lint → intent → signature).
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.keys.kinds import PrivateKey, PublicKey, kind_of, scheme_by_algorithm
from opencertd.keys.signer import Signer


class SpecimenKeys:
    """Throw-away keys by kind of issuer key, made at first need and never written anywhere."""

    def __init__(self) -> None:
        self._keys: dict[str, PrivateKey] = {}

    def sign(self, builder: x509.CertificateBuilder, signer: Signer) -> bytes:
        """The specimen, DER: as `signer` would sign it, but for the signature."""
        scheme = scheme_by_algorithm(signer.public_key, signer.algorithm_der)
        key = self._key_like(signer.public_key)
        return builder.sign(key, scheme.digest, rsa_padding=scheme.padding).public_bytes(Encoding.DER)

    def _key_like(self, issuer_key: PublicKey) -> PrivateKey:
        """A key of the issuer's kind; of RSA the smallest, since its size shows nowhere in the to-be-signed bytes."""
        kind = kind_of(issuer_key)
        if kind.name not in self._keys:
            self._keys[kind.name] = kind.make()
        return self._keys[kind.name]
