"""EST on the wire: enrolment bodies in, base64 answers and refusals out (RFC 7030 §4, RFC 8951 §3).

Refusals are plain text; their statuses are those that all HTTP edges share.
"""

from __future__ import annotations

import base64
import enum

from opencertd.asn1.transfer import decode_transfer
from opencertd.errors import Refusal, RefusalKind

CACERTS_TYPE = "application/pkcs7-mime"
ENROLMENT_TYPE = "application/pkcs7-mime; smime-type=certs-only"
CSRATTRS_TYPE = "application/csrattrs"
KEY_TYPE = "application/pkcs8"
KEY_CMS_TYPE = "application/pkcs7-mime; smime-type=server-generated-key"
_BOUNDARY = "opencertd-est-serverkeygen"  # no base64 holds a hyphen
GENERATED_TYPE = f"multipart/mixed; boundary={_BOUNDARY}"
REFUSAL_TYPE = "text/plain; charset=utf-8"

RETRY_AFTER = {RefusalKind.PENDING: 30, RefusalKind.UNAVAILABLE: 10, RefusalKind.RATE_LIMITED: 10}
"""Whole seconds to wait where a refusal that passes does not say; RFC 7030 §4.2.3 demands some after a 202."""


class BodyForm(enum.Enum):
    """How base64 bodies are broken into lines; no single form serves every client.

    `AUTO`: lines of 64 with LF, which libest and `openssl base64 -d` need; but one line for a request without
    User-Agent, which is how strongSwan's `pki` shows itself and what it needs.
    """

    AUTO = "auto"
    WRAPPED = "wrapped"
    SINGLE = "single"


def parse_enrolment(content_type: str | None, body: bytes) -> bytes:
    """The PKCS#10 request (DER or PEM, not yet parsed) in an enrolment's body.

    Raises Refusal UNSUPPORTED_MEDIA_TYPE for anything but application/pkcs10, MALFORMED for bodies that are none.
    """
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type != "application/pkcs10":
        raise Refusal(RefusalKind.UNSUPPORTED_MEDIA_TYPE, "an enrolment request has the type application/pkcs10")
    return decode_transfer(body)


def encode_transfer(data: bytes, form: BodyForm, user_agent: str | None) -> bytes:
    """`data` in base64, broken into lines as `form` says for a client that calls itself `user_agent`."""
    text = base64.b64encode(data)
    if form is BodyForm.SINGLE or (form is BodyForm.AUTO and not user_agent):
        return text + b"\n"
    return b"".join(text[start : start + 64] + b"\n" for start in range(0, len(text), 64))


def encode_generated(key_der: bytes, *, encrypted: bool, certificates_cms: bytes) -> bytes:
    """The private key and its certificate as two parts of multipart/mixed (RFC 7030 §4.4.2); in MIME lines end CRLF."""
    parts = ((KEY_CMS_TYPE if encrypted else KEY_TYPE, key_der), (ENROLMENT_TYPE, certificates_cms))
    return b"".join(_part(*part) for part in parts) + f"--{_BOUNDARY}--\r\n".encode()


def _part(media_type: str, data: bytes) -> bytes:
    head = f"--{_BOUNDARY}\r\nContent-Type: {media_type}\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    return head.encode() + encode_transfer(data, BodyForm.WRAPPED, None).replace(b"\n", b"\r\n")


def encode_refusal(refusal: Refusal) -> bytes:
    """The refusal as one line of plain text for the person who reads it (RFC 7030 §4.2.3)."""
    sentence = " ".join(refusal.detail.split()) or refusal.kind.value
    ending = "" if sentence.endswith((".", "!", "?")) else "."
    return f"{sentence[0].upper()}{sentence[1:]}{ending}\n".encode("utf-8", "replace")
