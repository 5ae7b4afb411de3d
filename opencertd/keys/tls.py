"""Private keys as OpenSSL's TLS takes them from Python."""

from __future__ import annotations

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import crypto

from opencertd.keys.kinds import MlDsaPrivateKey, PrivateKey


def tls_key(key: PrivateKey) -> PrivateKey | crypto.PKey:
    """What `SSL.Context.use_privatekey` takes: the key itself, but ML-DSA by way of its bytes.

    pyOpenSSL knows no ML-DSA objects, while the OpenSSL below it reads such keys and uses them in TLS 1.3.
    """
    if not isinstance(key, MlDsaPrivateKey):
        return key
    return crypto.load_privatekey(
        crypto.FILETYPE_ASN1, key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    )
