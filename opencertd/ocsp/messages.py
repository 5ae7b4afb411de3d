"""OCSP as HTTP carries it: the request in a GET's path, the answer with its freshness, refusals as statuses."""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from opencertd.asn1.ocsp import ResponseStatus, encode_error
from opencertd.errors import Refusal, RefusalKind

REQUEST_TYPE = "application/ocsp-request"
RESPONSE_TYPE = "application/ocsp-response"

OCSP_STATUS: Mapping[RefusalKind, ResponseStatus] = {
    RefusalKind.MALFORMED: ResponseStatus.MALFORMED_REQUEST,
    RefusalKind.BAD_CSR: ResponseStatus.MALFORMED_REQUEST,
    RefusalKind.BAD_PUBLIC_KEY: ResponseStatus.MALFORMED_REQUEST,
    RefusalKind.BAD_SIGNATURE_ALGORITHM: ResponseStatus.MALFORMED_REQUEST,
    RefusalKind.BAD_NONCE: ResponseStatus.MALFORMED_REQUEST,
    RefusalKind.BAD_REVOCATION_REASON: ResponseStatus.MALFORMED_REQUEST,
    RefusalKind.REJECTED_NAME: ResponseStatus.MALFORMED_REQUEST,
    RefusalKind.UNSUPPORTED_NAME: ResponseStatus.MALFORMED_REQUEST,
    RefusalKind.INVALID_CONTACT: ResponseStatus.MALFORMED_REQUEST,
    RefusalKind.INVALID_PROFILE: ResponseStatus.MALFORMED_REQUEST,
    RefusalKind.ALREADY_REPLACED: ResponseStatus.MALFORMED_REQUEST,
    RefusalKind.RENEWAL_CANCELED: ResponseStatus.MALFORMED_REQUEST,
    RefusalKind.RENEWAL_ENDED: ResponseStatus.MALFORMED_REQUEST,
    RefusalKind.CANCELLATION_INVALID: ResponseStatus.MALFORMED_REQUEST,
    RefusalKind.REVOCATION_NOT_SUPPORTED: ResponseStatus.MALFORMED_REQUEST,
    RefusalKind.UNSUPPORTED_CONTACT: ResponseStatus.MALFORMED_REQUEST,
    RefusalKind.USER_ACTION_REQUIRED: ResponseStatus.UNAUTHORIZED,
    RefusalKind.EXTERNAL_ACCOUNT_REQUIRED: ResponseStatus.UNAUTHORIZED,
    RefusalKind.ACCOUNT_DOES_NOT_EXIST: ResponseStatus.UNAUTHORIZED,
    RefusalKind.UNAUTHENTICATED: ResponseStatus.SIG_REQUIRED,
    RefusalKind.UNAUTHORIZED: ResponseStatus.UNAUTHORIZED,
    RefusalKind.NOT_FOUND: ResponseStatus.UNAUTHORIZED,
    RefusalKind.METHOD_NOT_ALLOWED: ResponseStatus.MALFORMED_REQUEST,
    RefusalKind.UNSUPPORTED_MEDIA_TYPE: ResponseStatus.MALFORMED_REQUEST,
    RefusalKind.NOT_ACCEPTABLE: ResponseStatus.MALFORMED_REQUEST,
    RefusalKind.NOT_IMPLEMENTED: ResponseStatus.INTERNAL_ERROR,
    RefusalKind.TOO_LARGE: ResponseStatus.MALFORMED_REQUEST,
    RefusalKind.NOT_READY: ResponseStatus.TRY_LATER,
    RefusalKind.CONFLICT: ResponseStatus.TRY_LATER,
    RefusalKind.ALREADY_REVOKED: ResponseStatus.INTERNAL_ERROR,
    RefusalKind.RATE_LIMITED: ResponseStatus.TRY_LATER,
    RefusalKind.PENDING: ResponseStatus.TRY_LATER,
    RefusalKind.UNAVAILABLE: ResponseStatus.TRY_LATER,
    RefusalKind.INTERNAL: ResponseStatus.INTERNAL_ERROR,
}
"""The one table from refusals to what OCSP can say (RFC 6960 §4.2.1)."""

_OTHER_ALPHABETS = bytes.maketrans(b"-_ ", b"+/+")
_PADDING = (b"", b"===", b"==", b"=")


class Freshness(NamedTuple):
    """How long caches may hand an answer to others."""

    this_update: datetime
    next_update: datetime


class OcspAnswer(NamedTuple):
    """An OCSPResponse in DER. `freshness` is None when no cache may keep it: errors, nonces, unknown certificates."""

    body: bytes
    freshness: Freshness | None = None

    @property
    def etag(self) -> str:
        """What caches ask by when they revalidate it."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'


def build_refusal(refusal: Refusal) -> OcspAnswer:
    """The refusal as OCSP says it."""
    return OcspAnswer(encode_error(OCSP_STATUS[refusal.kind]))


def request_of_uri(uri: bytes, segments: int) -> bytes:
    """The request in a GET's raw URI (RFC 6960 §A.1): percent-encoded base64 after the first `segments` segments.

    Clients and proxies differ in what they encode, so `/`, `+` and `=` are taken bare, encoded once or twice; so
    are the URL-safe alphabet, a `+` turned into a space, missing padding, and slashes too many before it (no
    request begins with one: DER's first octet makes it an `M`). Refusal MALFORMED when no base64 remains.
    """
    path = uri.partition(b"?")[0].split(b"/", segments + 1)
    text = path[segments + 1] if len(path) == segments + 2 else b""
    text = text.replace(b"%2F", b"/").replace(b"%2B", b"+").replace(b"%3D", b"=")  # the usual, quickly
    for _ in range(2):
        if b"%" in text:
            text = unquote_to_bytes(text)
    text = text.translate(_OTHER_ALPHABETS, b"\r\n\t").lstrip(b"/").rstrip(b"=")
    try:
        decoded = binascii.a2b_base64(text + _PADDING[len(text) % 4], strict_mode=True)
    except binascii.Error:
        decoded = b""
    if not decoded:
        raise Refusal(RefusalKind.MALFORMED, "the path does not end in a base64 OCSP request")
    return decoded
