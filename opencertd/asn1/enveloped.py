"""Content for one reader's eyes: CMS EnvelopedData for a certificate's key or a secret both sides know (RFC 5652 §6).

RSA by key transport (RFC 3370 §4.2.1, with OAEP by RFC 3560 where the reader says so), EC by ephemeral-static ECDH
(RFC 5753 §3.1), secrets by AES key wrap (RFC 3565).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from opencertd.asn1 import der

ENVELOPED_DATA = "1.2.840.113549.1.7.3"
CIPHERS = {
    "2.16.840.1.101.3.4.1.42": 32,
    "2.16.840.1.101.3.4.1.22": 24,
    "2.16.840.1.101.3.4.1.2": 16,
}
"""AES in CBC mode by OID, the one of choice first, and octets of its key."""
OAEP = "1.2.840.113549.1.1.7"

_WRAPS = {16: "2.16.840.1.101.3.4.1.5", 24: "2.16.840.1.101.3.4.1.25", 32: "2.16.840.1.101.3.4.1.45"}
_RSA = der.sequence(der.oid("1.2.840.113549.1.1.1"), der.null())
_EC = der.oid("1.2.840.10045.2.1")
_ECDH_SHA256 = der.oid("1.3.132.1.11.1")  # dhSinglePass-stdDH-sha256kdf-scheme
_SHA256 = der.sequence(der.oid("2.16.840.1.101.3.4.2.1"), der.null())
_MGF1 = der.oid("1.2.840.113549.1.1.8")

Random = Callable[[int], bytes]


class Reader(Protocol):
    """Whoever can open the envelope."""

    def recipient_info(self, content_key: bytes) -> bytes:
        """RecipientInfo by which the reader, and nobody else, comes to the content's key; DER."""


class RsaReader:
    """The holder of an RSA key, named by its certificate's subjectKeyIdentifier."""

    def __init__(self, key: rsa.RSAPublicKey, identifier: bytes, *, oaep: bool) -> None:
        self._key = key
        self._identifier = identifier
        self._oaep = oaep

    def recipient_info(self, content_key: bytes) -> bytes:
        if self._oaep:
            scheme: padding.AsymmetricPadding = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
            mask = der.explicit(1, der.sequence(_MGF1, _SHA256))
            algorithm = der.sequence(der.oid(OAEP), der.sequence(der.explicit(0, _SHA256), mask))
        else:
            scheme, algorithm = padding.PKCS1v15(), _RSA
        encrypted = self._key.encrypt(content_key, scheme)
        name = der.tlv(0x80, self._identifier)
        return der.sequence(der.integer(2), name, algorithm, der.octet_string(encrypted))


class EcReader:
    """The holder of an EC key, named by its certificate's subjectKeyIdentifier."""

    def __init__(self, key: ec.EllipticCurvePublicKey, identifier: bytes) -> None:
        self._key = key
        self._identifier = identifier

    def recipient_info(self, content_key: bytes) -> bytes:
        once = ec.generate_private_key(self._key.curve)
        size = len(content_key)
        wrap = der.sequence(der.oid(_WRAPS[size]))
        shared = der.sequence(wrap, der.explicit(2, der.octet_string((8 * size).to_bytes(4, "big"))))
        secret = X963KDF(hashes.SHA256(), size, shared).derive(once.exchange(ec.ECDH(), self._key))
        point = once.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        originator = der.tlv(0xA1, der.sequence(_EC) + der.bit_string(point))
        reader = der.tlv(0xA0, der.octet_string(self._identifier))
        keys = der.sequence(der.sequence(reader, der.octet_string(aes_key_wrap(secret, content_key))))
        algorithm = der.sequence(_ECDH_SHA256, wrap)
        return der.tlv(0xA1, der.integer(3) + der.explicit(0, originator) + algorithm + keys)


class SecretReader:
    """Whoever knows a secret of 16, 24 or 32 octets, by the name that both sides have for it."""

    def __init__(self, secret: bytes, identifier: bytes) -> None:
        self._secret = secret
        self._identifier = identifier

    def recipient_info(self, content_key: bytes) -> bytes:
        name = der.sequence(der.octet_string(self._identifier))
        algorithm = der.sequence(der.oid(_WRAPS[len(self._secret)]))
        wrapped = der.octet_string(aes_key_wrap(self._secret, content_key))
        return der.tlv(0xA2, der.integer(4) + name + algorithm + wrapped)


def envelope(content_type: str, content: bytes, reader: Reader, *, cipher: str, random: Random) -> bytes:
    """ContentInfo of EnvelopedData around `content`, by a cipher of CIPHERS; DER."""
    content_key, start = random(CIPHERS[cipher]), random(16)
    pad = PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(content_key), modes.CBC(start)).encryptor()
    encrypted = encryptor.update(pad.update(content) + pad.finalize()) + encryptor.finalize()
    inside = der.sequence(
        der.oid(content_type),
        der.sequence(der.oid(cipher), der.octet_string(start)),
        der.tlv(0x80, encrypted),
    )
    recipients = der.tlv(der.SET, reader.recipient_info(content_key))
    enveloped = der.sequence(der.integer(2), recipients, inside)
    return der.sequence(der.oid(ENVELOPED_DATA), der.explicit(0, enveloped))
