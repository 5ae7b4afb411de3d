"""What an application that has the daemon inside is asked about OCSP requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from opencertd.model.certificates import CertificateRecord


@dataclass(frozen=True)
class OcspInquiry:
    """Somebody wants to know about certificates of `issuer` (its name) with these `serials`.

    `signer`: the certificate whose holder signed the request, None where it was not signed.
    """

    issuer: str
    serials: tuple[int, ...]
    signer: CertificateRecord | None


CheckInquiry = Callable[[OcspInquiry], bool | Awaitable[bool]]
"""Whether to answer, now or when it is awaited."""
