"""JSON and base64url, read strictly: one meaning for any text, and a Refusal for everything else.

Sources: RFC 8259 (JSON), RFC 7515 §2 (base64url without padding), RFC 7515 §4 (no repeated names).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, NoReturn

from opencertd.errors import Refusal, RefusalKind

_B64URL = re.compile(  # whole groups of four, then what two or three digits can end in without stray bits
    r"(?:[A-Za-z0-9_-]{4})*+(?:[A-Za-z0-9_-][AQgw]|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048])?\Z"
)
_TO_B64 = bytes.maketrans(b"-_", b"+/")  # bytes are translated ten times as fast as text


def parse_object(data: bytes, what: str) -> dict[str, Any]:
    """`data` as a JSON object: UTF-8, no repeated names, no lone surrogates. Raises MALFORMED, naming `what`."""
    try:
        value = _DECODER.decode(data.decode("utf-8"))
        if b"\\" in data:  # an escaped lone surrogate could be neither stored nor answered
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):  # among others UnicodeError, and numbers of absurd length
        raise Refusal(RefusalKind.MALFORMED, f"{what} is not well-formed JSON") from None
    if not isinstance(value, dict):
        raise Refusal(RefusalKind.MALFORMED, f"{what} is not a JSON object")
    return value


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return members


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_once_each, parse_constant=_refuse_constant)


def encode_json(document: dict[str, Any]) -> bytes:
    """The document as JSON text for the wire, on one line: Python indents several times slower than it writes."""
    return json.dumps(document).encode("ascii") + b"\n"


def b64url(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def parse_b64url(text: object, what: str) -> bytes:
    """Strict base64url: its alphabet, no padding, no stray bits. Raises MALFORMED, naming `what`."""
    if isinstance(text, str) and _B64URL.match(text):
        return binascii.a2b_base64(text.encode("ascii").translate(_TO_B64) + b"==")
    raise Refusal(RefusalKind.MALFORMED, f"{what} is not base64url without padding")


def parse_sloppy_b64(text: object, what: str) -> bytes:
    """base64url or base64, padded or not, as clients send DER. Raises MALFORMED, naming `what`."""
    if isinstance(text, str):
        text = text.rstrip("=").replace("+", "-").replace("/", "_")
    return parse_b64url(text, what)
