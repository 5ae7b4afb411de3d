"""A key that an EST server has made: the two parts of its answer, read (RFC 7030 §4.4.2)."""

from __future__ import annotations

import email
from dataclasses import dataclass, field
from email.message import Message

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key

from opencertd.asn1.cms import decode_certs_only
from opencertd.asn1.transfer import decode_transfer
from opencertd.client.errors import ClientError
from opencertd.errors import Refusal
from opencertd.keys.kinds import PrivateKey


@dataclass(frozen=True)
class Generated:
    """The private key, its certificate, and what else the server sent with it."""

    key: PrivateKey = field(repr=False)
    certificate: x509.Certificate
    others: tuple[x509.Certificate, ...]


def read_generated(content_type: str, body: bytes) -> Generated:
    """The key and certificates in an answer to serverkeygen. Raises ClientError, also when they do not fit."""
    parts = _parts(content_type, body)
    encrypted = [part for part in parts if part.get_param("smime-type") == "server-generated-key"]
    if encrypted:
        raise ClientError("the server sent the key encrypted, which this client has not asked")
    keys = [part for part in parts if part.get_content_type() == "application/pkcs8"]
    chains = [part for part in parts if part.get_content_type() == "application/pkcs7-mime"]
    if len(keys) != 1 or len(chains) != 1:
        raise _unreadable()
    try:
        key = load_der_private_key(_content(keys[0]), None)
        if not isinstance(key, PrivateKey):
            raise _unreadable()
        found = [x509.load_der_x509_certificate(one) for one in decode_certs_only(_content(chains[0]))]
    except (ValueError, TypeError, UnsupportedAlgorithm, Refusal):
        raise _unreadable() from None
    for certificate in found:
        if _fits(key, certificate):
            return Generated(key, certificate, tuple(one for one in found if one != certificate))
    raise ClientError("the server sent a key and a certificate that do not belong together")


def _unreadable() -> ClientError:
    return ClientError("the server's answer holds no key and certificate that can be read")


def _parts(content_type: str, body: bytes) -> list[Message]:
    head = b"Content-Type: " + content_type.encode("ascii", "replace") + b"\r\n\r\n"
    message = email.message_from_bytes(head + body)
    parts = message.get_payload()
    if message.get_content_type() != "multipart/mixed" or not isinstance(parts, list):
        raise _unreadable()
    return [part for part in parts if isinstance(part, Message)]


def _content(part: Message) -> bytes:
    """The bytes of a part, which are base64 whatever its Content-Transfer-Encoding says (RFC 8951 §3)."""
    return decode_transfer(str(part.get_payload()).encode("ascii", "replace"))


def _fits(key: PrivateKey, certificate: x509.Certificate) -> bool:
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        return key.public_key().public_bytes(*form) == certificate.public_key().public_bytes(*form)
    except (ValueError, UnsupportedAlgorithm):
        return False
