"""Enrolment requests gone wrong in many ways, the same ones for a seed: as nobody sends them, and as somebody might.

Most are signed after they were bent, so that what is behind the signature's check is reached as well.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AttributeOID

from opencertd.asn1 import der
from opencertd.asn1.dn import parse_dn
from opencertd.est.generation import ASYMMETRIC_DECRYPT_KEY, DECRYPT_KEY, SMIME_CAPABILITIES
from tests.est.test_change_subject import ATTRIBUTE as CHANGE_SUBJECT
from tests.est.test_change_subject import change

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
SUBJECT = "CN=device,O=Ex"
NAMES = ("a.test", "b.test")
KEY_NAME = b"\x0a\x1b"


def plain(key: Key, *attributes: tuple[x509.ObjectIdentifier, bytes], password: str | None = None) -> bytes:
    """The part of a good request that is signed, with attributes besides names."""
    general = x509.SubjectAlternativeName([x509.DNSName(name) for name in NAMES])
    usage = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = x509.CertificateSigningRequestBuilder(parse_dn(SUBJECT))
    builder = builder.add_extension(general, critical=False).add_extension(usage, critical=False)
    if password is not None:
        builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, password.encode())
    whole = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    information = der.children(whole, der.read_only(whole, der.SEQUENCE))[0]
    *head, set_of = der.children(whole, information)
    more = [der.sequence(der.oid(oid.dotted_string), der.tlv(der.SET, value)) for oid, value in attributes]
    inside = b"".join([set_of.content(whole), *more])
    return der.sequence(*(part.raw(whole) for part in head), der.tlv(0xA0, inside))


def signed(key: Key, information: bytes) -> bytes:
    """The request, whatever has become of it."""
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(information, padding.PKCS1v15(), hashes.SHA256())
        algorithm = der.sequence(der.oid("1.2.840.113549.1.1.11"), der.null())
    else:
        signature = key.sign(information, ec.ECDSA(hashes.SHA256()))
        algorithm = der.sequence(der.oid("1.2.840.10045.4.3.2"))
    return der.sequence(information, algorithm, der.bit_string(signature))


def informations(key: Key) -> list[bytes]:
    """One of each sort that an EST client may send."""
    capable = der.sequence(
        der.sequence(der.oid("2.16.840.1.101.3.4.1.2")), der.sequence(der.oid("1.2.840.113549.1.1.7"))
    )
    return [
        plain(key),
        plain(key, password="sesame"),
        plain(key, password=base64.b64encode(bytes(32)).decode()),
        plain(key, (DECRYPT_KEY, der.octet_string(KEY_NAME)), (SMIME_CAPABILITIES, capable)),
        plain(key, (ASYMMETRIC_DECRYPT_KEY, der.octet_string(bytes(20)))),
        plain(key, (CHANGE_SUBJECT, change("CN=new", "new.test"))),
    ]


def _flip(source: random.Random, data: bytearray) -> None:
    data[source.randrange(len(data))] ^= 1 << source.randrange(8)


def _set(source: random.Random, data: bytearray) -> None:
    data[source.randrange(len(data))] = source.choice((0, 1, 0x30, 0x31, 0x7F, 0x80, 0x84, 0xA0, 0xFF))


def _cut(source: random.Random, data: bytearray) -> None:
    start = source.randrange(len(data))
    del data[start : start + source.randrange(1, 40)]


def _insert(source: random.Random, data: bytearray) -> None:
    start = source.randrange(len(data))
    data[start:start] = source.randbytes(source.randrange(1, 40))


def _repeat(source: random.Random, data: bytearray) -> None:
    start = source.randrange(len(data))
    data[start:start] = data[start : start + source.randrange(1, 60)] * source.choice((1, 2, 20))


def _swap(source: random.Random, data: bytearray) -> None:
    start = source.randrange(len(data))
    data[start : start + 8] = reversed(data[start : start + 8])


def _end(source: random.Random, data: bytearray) -> None:
    del data[source.randrange(len(data)) :]


_HARM: tuple[Callable[[random.Random, bytearray], None], ...] = (
    _flip,
    _flip,
    _set,
    _set,
    _cut,
    _insert,
    _repeat,
    _swap,
    _end,
)


def bent(source: random.Random, data: bytes) -> bytes:
    """With one to three harms done to it."""
    found = bytearray(data)
    for _ in range(source.choice((1, 1, 1, 2, 3))):
        if found:
            source.choice(_HARM)(source, found)
    return bytes(found)


def element_bent(source: random.Random, data: bytes) -> bytes:
    """DER in which one element, at any depth, has another tag or content, and all lengths around it are right."""
    element = der.read_only(data, data[0])
    content = element.content(data)
    if data[0] & 0x20 and content and source.random() < 0.85:
        parts = [part.raw(data) for part in der.children(data, element)]
        if parts:
            chosen = source.randrange(len(parts))
            what = source.random()
            if what < 0.8:
                parts[chosen] = element_bent(source, parts[chosen])
            elif what < 0.9:
                parts[chosen:chosen] = [parts[chosen]] * source.choice((1, 1, 50))
            else:
                del parts[chosen]
            return der.tlv(data[0], b"".join(parts))
    if source.random() < 0.3:
        return der.tlv(
            source.choice((0x01, 0x02, 0x03, 0x05, 0x06, 0x0C, 0x13, 0x16, 0x1E, 0x30, 0x31, 0x82, 0xA0)), content
        )
    return der.tlv(data[0], bent(source, content) if content else source.randbytes(3))


def encoded(source: random.Random, request: bytes) -> bytes:
    """As clients send it, and a little as none does."""
    form = source.randrange(10)
    if form < 4:
        return request
    text = base64.encodebytes(request) if form < 6 else base64.b64encode(request)
    if form == 7:
        return (
            b"-----BEGIN CERTIFICATE REQUEST-----\n"
            + base64.encodebytes(request)
            + b"-----END CERTIFICATE REQUEST-----\n"
        )
    return bent(source, text) if form == 8 and text else text


class Mutants:
    """Bodies without end."""

    def __init__(self, seed: str, *keys: Key) -> None:
        self.source = random.Random(seed)
        self._made = [(key, information) for key in keys for information in informations(key)]

    def body(self) -> bytes:
        """The next one."""
        source = self.source
        if source.random() < 0.03:
            return source.choice((b"", b"\x30\x80" * 2000, b"[" * 5000, source.randbytes(source.randrange(1, 300))))
        key, information = source.choice(self._made)
        how = source.random()
        if how < 0.05:
            return encoded(source, signed(key, information))
        if how < 0.6:
            return encoded(source, signed(key, element_bent(source, information)))
        if how < 0.75:
            return encoded(source, signed(key, bent(source, information)))
        return encoded(source, bent(source, signed(key, information)))

    def headers(self) -> list[tuple[str, str]]:
        """Content-Type and others, mostly right."""
        source = self.source
        kind = "application/pkcs10" if source.random() < 0.95 else source.choice(_TYPES)
        found = [("Content-Type", kind)]
        if source.random() < 0.2:
            found.append(("Accept", source.choice(_ACCEPTS)))
        if source.random() < 0.5:
            found.append(("User-Agent", "mutant"))
        if source.random() < 0.1:
            found.append(("Content-Transfer-Encoding", source.choice(("base64", "binary", "x"))))
        return found


_TYPES: tuple[Any, ...] = (
    "",
    "application/pkcs10;",
    "APPLICATION/PKCS10; x=\x80",
    "text/plain",
    "multipart/mixed",
    ";" * 99,
)
_ACCEPTS: tuple[Any, ...] = (
    "*/*",
    "application/pkix-cert",
    "application/x-pem-file;q=0.1",
    "image/*",
    ",;q=," * 20,
    "q=9",
)
