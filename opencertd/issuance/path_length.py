"""How many CAs a chain still allows below an issuer (pathLenConstraint, RFC 5280 §4.2.1.9, §6.1.4 (l), (m))."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509

from opencertd.errors import Refusal, RefusalKind


def room_below(chain: Iterable[x509.Certificate]) -> int | None:
    """How many CAs may follow one after the other below the first certificate of the chain; None: any number.

    `chain`: an issuer's certificate, then its parents, the root last. Negative when the chain contradicts itself, so
    that not even end entities under it would be accepted. Self-issued certificates do not count.
    """
    room: int | None = None
    passed = 0
    for certificate in chain:
        limit = _limit(certificate)
        if limit is not None:
            room = limit - passed if room is None else min(room, limit - passed)
        if certificate.subject != certificate.issuer:
            passed += 1
    return room


def check_path_length(room: int | None, wanted: int | None, issuer: str) -> int | None:
    """The pathLenConstraint of a CA to be under an issuer with that room: as wanted, else the most there can be.

    Raises Refusal UNAUTHORIZED when there may be no such CA.
    """
    if room is None:
        return wanted
    if room < 1:
        raise Refusal(
            RefusalKind.UNAUTHORIZED,
            f"the issuer {issuer!r} may have no CA below it: a pathLenConstraint in its chain forbids that",
        )
    if wanted is not None and wanted > room - 1:
        raise Refusal(
            RefusalKind.UNAUTHORIZED,
            f"a path length of {wanted} is asked; {room - 1} is the most under the issuer {issuer!r}",
        )
    return room - 1 if wanted is None else wanted


def _limit(certificate: x509.Certificate) -> int | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    except x509.ExtensionNotFound:
        return None
