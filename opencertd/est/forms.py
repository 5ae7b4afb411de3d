"""In which form a client takes certificates: what its Accept header asks for among what there is (RFC 9110 §12.5.1).

RFC 7030 knows certs-only CMS; the others spare a client the tool that opens it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence

from opencertd.asn1.pem import encode_certificates
from opencertd.errors import Refusal, RefusalKind

_QUALITY = re.compile(r"q\s*=\s*([01](?:\.[0-9]{0,3})?)\Z", re.ASCII | re.IGNORECASE)
_MOST_RANGES = 50


class CertificateForm(enum.Enum):
    """The value is the media type. The first is taken where the client has no wish."""

    CERTS_ONLY = "application/pkcs7-mime"
    DER = "application/pkix-cert"
    PEM_CHAIN = "application/pem-certificate-chain"
    PEM = "application/x-pem-file"


def choose_form(accept: str | None, offered: Sequence[CertificateForm]) -> CertificateForm:
    """The form that the client likes best; of several the first offered. Raises NOT_ACCEPTABLE when there is none."""
    if accept is None or not accept.strip():
        return offered[0]
    ranges = _ranges(accept)
    rated = [(form, _quality(form.value, ranges)) for form in offered]
    form, quality = max(rated, key=lambda pair: pair[1])  # the first of equals
    if quality == 0:
        names = ", ".join(form.value for form in offered)
        raise Refusal(RefusalKind.NOT_ACCEPTABLE, f"the answer can be had as {names}; the Accept header takes none")
    return form


def check_accepts(accept: str | None, media_type: str) -> None:
    """Raise NOT_ACCEPTABLE when a client does not take the only form there is."""
    if accept is not None and accept.strip() and _quality(media_type, _ranges(accept)) == 0:
        raise Refusal(RefusalKind.NOT_ACCEPTABLE, f"the answer is {media_type}; the Accept header does not take it")


def _ranges(accept: str) -> dict[str, float]:
    """Media ranges and how much they are liked. Parameters other than q say nothing here."""
    found = {}
    for one in accept.lower().split(",")[:_MOST_RANGES]:
        name, *parameters = (part.strip() for part in one.split(";"))
        matches = [match for match in map(_QUALITY.match, parameters) if match]
        found[name] = min(float(matches[0][1]), 1.0) if matches else 1.0
    return found


def _quality(media_type: str, ranges: dict[str, float]) -> float:
    """That of the most specific range."""
    kind = media_type.partition("/")[0]
    for name in (media_type, f"{kind}/*", "*/*"):
        if name in ranges:
            return ranges[name]
    return 0.0


def encode_plain(form: CertificateForm, alone: tuple[bytes, ...], chain: tuple[bytes, ...]) -> bytes:
    """The body of any form but certs-only: `alone` is what was asked, `chain` that and what is above it."""
    if form is CertificateForm.DER:
        (certificate,) = alone
        return certificate
    return encode_certificates(chain if form is CertificateForm.PEM_CHAIN else alone)
