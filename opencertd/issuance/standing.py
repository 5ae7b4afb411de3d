"""Whether an issuer may sign certificates now, and which: its own standing and what its chain allows."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509

from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuer, Issuers
from opencertd.issuance.name_constraints import check_name_constraints
from opencertd.issuance.path_length import check_path_length
from opencertd.model.certificates import IssuerState
from opencertd.model.names import AltName


def check_standing(issuer: Issuer, issuers: Issuers, now: datetime) -> None:
    """Raise UNAVAILABLE in words unless the issuer's certificate is good now and its key is here.

    `issuers`: all there are; when one above it is revoked, nothing under that is trusted.
    """
    why = _why_not(issuer, issuers, now)
    if why:
        raise Refusal(RefusalKind.UNAVAILABLE, f"the issuing CA {issuer.name!r} does not sign: {why}")


def _why_not(issuer: Issuer, issuers: Issuers, now: datetime) -> str | None:
    if issuer.record.state is IssuerState.REVOKED:
        return "its certificate is revoked"
    above = issuers.by_id(issuer.record.parent_id or "")
    while above is not None:
        if above.record.state is IssuerState.REVOKED:
            return f"the certificate of the CA {above.name!r} above it is revoked"
        above = issuers.by_id(above.record.parent_id or "")
    if not issuer.has_key:
        return "its key is not here: it was taken away"
    own = issuer.certificate
    if now < own.not_valid_before_utc:
        return f"its certificate begins only on {own.not_valid_before_utc:%Y-%m-%d %H:%M} UTC: check the clock"
    if now >= own.not_valid_after_utc:
        ended = own.not_valid_after_utc
        return f"its certificate has expired, on {ended:%Y-%m-%d %H:%M} UTC: renew the CA, or check the clock"
    return None


def check_chain(
    issuer: Issuer, subject: x509.Name, names: tuple[AltName, ...], *, ca: bool, path_length: int | None
) -> None:
    """Raise a Refusal for a certificate that clients would refuse for the limits of the issuer's chain.

    REJECTED_NAME for names, UNAUTHORIZED for a CA below one that may have none or fewer.
    """
    room = issuer.room_below
    if ca:
        check_path_length(room, path_length, issuer.name)
    elif room is not None and room < 0:
        words = f"the CA {issuer.name!r} has more CAs above it than their pathLenConstraint allows"
        raise Refusal(RefusalKind.UNAVAILABLE, words)
    check_name_constraints(issuer.name_limits, subject, names, ca=ca)
