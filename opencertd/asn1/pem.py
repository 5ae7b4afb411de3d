"""PEM (RFC 7468), read leniently: text around blocks, white space and attributes before the base64 are passed over."""

from __future__ import annotations

import base64
import binascii
import re

# No dash in the body keeps this linear: hostile text of many beginnings costs no more than any other.
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----[ \t]*\r?\n([^-]*)-----END \1-----")
CERTIFICATE = "CERTIFICATE"
CERTIFICATE_REQUEST = "CERTIFICATE REQUEST"
CRL = "X509 CRL"


def parse_pem(data: bytes) -> tuple[tuple[str, bytes], ...]:
    """Label and DER of each block, in order; none when there is no block. Raises ValueError for broken base64.

    A block with RFC 1421 headers (`Proc-Type: 4,ENCRYPTED`) raises ValueError too: its content is no DER.
    """
    if b"Proc-Type:" in data:
        raise ValueError("a block is encrypted in OpenSSL's old form: write the key anew with `openssl pkcs8 -topk8`")
    blocks = []
    for match in _BLOCK.finditer(data):
        label = match.group(1).decode()
        body = match.group(2)
        try:
            content = base64.b64decode(b"".join(body.split()), validate=True)
        except binascii.Error as error:
            raise ValueError(f"the {label} block is not valid base64") from error
        blocks.append((label, content))
    return tuple(blocks)


def encode_pem(label: str, der: bytes) -> bytes:
    """One block with lines of 64 characters and a final newline."""
    text = base64.b64encode(der)
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    edge = label.encode()
    return b"\n".join((b"-----BEGIN " + edge + b"-----", *lines, b"-----END " + edge + b"-----", b""))


def encode_certificates(certificates_der: tuple[bytes, ...]) -> bytes:
    """Certificates one after another, as TLS servers and RFC 8555 §9.1 want them."""
    return b"".join(encode_pem(CERTIFICATE, certificate) for certificate in certificates_der)


def parse_certificates(data: bytes) -> tuple[bytes, ...]:
    """DER of every CERTIFICATE block. Raises ValueError for broken base64."""
    return tuple(content for label, content in parse_pem(data) if label == CERTIFICATE)
