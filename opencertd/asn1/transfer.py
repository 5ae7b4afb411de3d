"""DER as people really send it: raw, as PEM, or in base64 on one line or on many.

RFC 8951 §3.1 makes base64 the only form of EST bodies, and tells readers to ignore `Content-Transfer-Encoding`;
clients nevertheless send all of these, so the bytes themselves decide.
"""

from __future__ import annotations

import base64
import binascii

from opencertd.asn1 import der
from opencertd.errors import Refusal, RefusalKind

_MOST_BLOCKS = 8
"""PEM blocks in a body: a request, perhaps with parameters or a chain. Thousands would hold up whoever parses them."""


def decode_transfer(body: bytes) -> bytes:
    """DER or PEM from a body that holds DER, PEM or base64 of DER (standard alphabet, padding may be missing).

    Looks at the first octets only: what comes back is not yet parsed. Raises Refusal MALFORMED.
    """
    if not body.strip():
        raise Refusal(RefusalKind.MALFORMED, "the request has no body")
    if body.count(b"-----BEGIN") > _MOST_BLOCKS:
        raise Refusal(RefusalKind.MALFORMED, "the body holds too many PEM blocks")
    if body[0] == der.SEQUENCE or b"-----BEGIN" in body:  # base64 of a SEQUENCE starts with M, never with 0x30
        return body
    text = b"".join(body.split())
    try:
        decoded = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(RefusalKind.MALFORMED, "the body is neither DER nor PEM nor base64") from None
    if decoded[:1] != bytes((der.SEQUENCE,)):
        raise Refusal(RefusalKind.MALFORMED, "the body is base64, but not of a DER structure")
    return decoded
