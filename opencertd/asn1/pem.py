"""PEM (RFC 7468), read leniently: text around blocks, white space and attributes before the base64 are passed over."""

from __future__ import annotations

import base64
import binascii
import re

_BLOCK = re.compile(
    rb"-----BEGIN ([A-Z0-9 ]{1,64})-----[ \t]*\r?\n(.*?)-----END \1-----",
    re.DOTALL,
)
CERTIFICATE = "CERTIFICATE"
CERTIFICATE_REQUEST = "CERTIFICATE REQUEST"
CRL = "X509 CRL"


def parse_pem(data: bytes) -> tuple[tuple[str, bytes], ...]:
    """Label and DER of each block, in order; none when there is no block. Raises ValueError for broken base64.

    Blocks with RFC 1421 headers (`Proc-Type: 4,ENCRYPTED`) raise ValueError too: their content is no DER.
    """
    blocks = []
    for match in _BLOCK.finditer(data):
        label = match.group(1).decode()
        body = match.group(2)
        if b":" in body:
            raise ValueError(f"the {label} block has headers (an encrypted key of the old OpenSSL form?)")
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
