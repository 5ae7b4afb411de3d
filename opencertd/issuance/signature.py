"""The issuer's key is used here, for certificates and precertificates."""

from __future__ import annotations

from opencertd.asn1 import signed
from opencertd.keys.kinds import verifies
from opencertd.keys.signer import Signer


async def signed_by(signer: Signer, tbs_der: bytes) -> bytes:
    """The signed certificate. Raises ValueError when the signature is wrong, and what the signer raises."""
    signature = await signer.sign(tbs_der)
    # A faulty signature (a broken token, a flipped bit) can give the key away; nobody may see it.
    if not verifies(signer.public_key, signature, tbs_der, signer.algorithm_der):
        raise ValueError("the signature does not verify")
    return signed.assemble(tbs_der, signer.algorithm_der, signature)
