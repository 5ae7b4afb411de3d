"""What is linted is a specimen: the whole certificate, but for a signature that is a throw-away key's.

What is linted and recorded is then exactly what the issuer's key signs (draft → lint → intent → signature).
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.asn1 import signed
from opencertd.keys.kinds import PrivateKey, PublicKey, kind_of, scheme_by_algorithm
from opencertd.keys.signer import Signer


class SpecimenKeys:
    """Throw-away keys by kind of issuer key, made at first need and never written anywhere."""

    def __init__(self) -> None:
        self._keys: dict[str, PrivateKey] = {}
        self._signatures: dict[tuple[str, bytes], bytes] = {}

    def sign(self, builder: x509.CertificateBuilder, signer: Signer) -> bytes:
        """The specimen, DER: as `signer` would sign it, but for the signature."""
        scheme = scheme_by_algorithm(signer.public_key, signer.algorithm_der)
        key = self._key_like(signer.public_key)
        return builder.sign(key, scheme.digest, rsa_padding=scheme.padding).public_bytes(Encoding.DER)

    def complete(self, tbs_der: bytes, signer: Signer) -> bytes:
        """The specimen with these to-be-signed bytes, DER.

        Its signature is one that the throw-away key made once, of other bytes: whoever judges specimens looks at all
        but its value, and to make a new one for each would double what an issuance costs.
        """
        kind = kind_of(signer.public_key).name
        signature = self._signatures.get((kind, signer.algorithm_der))
        if signature is None:
            scheme = scheme_by_algorithm(signer.public_key, signer.algorithm_der)
            signature = scheme.sign(self._key_like(signer.public_key), tbs_der)
            self._signatures[kind, signer.algorithm_der] = signature
        return signed.assemble(tbs_der, signer.algorithm_der, signature)

    def _key_like(self, issuer_key: PublicKey) -> PrivateKey:
        """A key of the issuer's kind; of RSA the smallest, since its size shows nowhere in the to-be-signed bytes."""
        kind = kind_of(issuer_key)
        if kind.name not in self._keys:
            self._keys[kind.name] = kind.make()
        return self._keys[kind.name]
